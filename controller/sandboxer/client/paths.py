"""The paths of the API: `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/SUBRESOURCE`."""

from __future__ import annotations

from urllib.parse import quote

from sandboxer.kinds.meta import Resource

DEFAULT_NAMESPACE = "default"


def path_of(
    kind: type[Resource], namespace: str | None = None, name: str = "", subresource: str = ""
) -> str:
    """
    Return the path of a kind's objects, or of one, or of a part of one.

    Args:
        kind: Whose.
        namespace: None is all of them; of no meaning to a cluster-scoped kind.
        name: Of one object, which is then in namespace `default` when none is given.
        subresource: `status`, `scale`, `log`…
    """
    version: str = kind.model_fields["api_version"].default
    parts = ["api" if "/" not in version else "apis", *version.split("/")]
    if kind.namespaced and (name or namespace is not None):
        parts += ["namespaces", namespace or DEFAULT_NAMESPACE]
    parts.append(kind.plural)
    if name:
        parts += [name, subresource] if subresource else [name]
    return "/" + "/".join(quote(part, safe="") for part in parts)
