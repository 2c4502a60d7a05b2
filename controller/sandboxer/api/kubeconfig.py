"""
The kubeconfig: where the API is, whom to believe, and a token, in one file that kubectl reads.

The data directory has one for `admin`, made with the first token; it is the only place that holds
a token in clear.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sandboxer.api.private_files import write_private
from sandboxer.api.tokens import TokenFile, new_token
from sandboxer.errors import TerminalError

ADMIN = "admin"

CLUSTER = "sandboxer"


class Access(NamedTuple):
    """What a kubeconfig says."""

    server: str
    """URL."""
    ca_pem: bytes
    user: str
    token: str

    def document(self) -> dict[str, Any]:
        """Return it in kubectl's form."""
        authority = base64.b64encode(self.ca_pem).decode()
        cluster = {"server": self.server, "certificate-authority-data": authority}
        context = {"cluster": CLUSTER, "user": self.user, "namespace": "default"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CLUSTER, "cluster": cluster}],
            "users": [{"name": self.user, "user": {"token": self.token}}],
            "contexts": [{"name": CLUSTER, "context": context}],
            "current-context": CLUSTER,
        }

    def text(self) -> str:
        """Return it as YAML."""
        return yaml.safe_dump(self.document(), sort_keys=False)


def read_access(path: Path) -> Access | None:
    """Return what a kubeconfig of ours says; None when there is none, or it is not one of ours."""
    with suppress(OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        document = yaml.safe_load(path.read_bytes())
        (cluster,), (user,) = document["clusters"], document["users"]
        if cluster["name"] == CLUSTER and isinstance(cluster["cluster"], Mapping):
            authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"])
            server, token = cluster["cluster"]["server"], user["user"]["token"]
            return Access(str(server), authority, str(user["name"]), str(token))
    return None


def keep_admin_access(path: Path, tokens: TokenFile, *, server: str, ca_pem: bytes) -> bool:
    """
    Bring the data directory's kubeconfig up to date; at the first start, make it and its token.

    A file that was moved away is not made again: its token cannot be read from a hash. Where there
    are no tokens at all, the one in the file counts no more: whoever took the file of tokens away
    meant all of them.

    Returns:
        Whether there is a kubeconfig.

    Raises:
        TerminalError: It cannot be written.
    """
    known = read_access(path)
    first = not tokens.exists
    if known is None and (path.exists() or not first):
        return path.exists()
    kept = None if first else known
    user, token = (kept.user, kept.token) if kept else (ADMIN, new_token())
    access = Access(server, ca_pem, user, token)
    if access != known:
        write_private(path, access.text().encode())
    # NOTE: after the file, so that a kill in between cannot leave a token nobody knows; the next
    # start makes another.
    if first:
        tokens.add(ADMIN, "admin", token)
    return True


def write_access(path: Path, access: Access) -> None:
    """
    Write a kubeconfig over nothing but one of ours.

    Raises:
        TerminalError: The file is somebody else's, or cannot be written.
    """
    if path.exists() and read_access(path) is None:
        raise TerminalError(
            f"{path} exists and holds more than access to sandboxer; it is left as it is.",
            reason="FileExists",
            remedy="Write another file and name both in KUBECONFIG=FILE:FILE, which kubectl merges.",
        )
    write_private(path, access.text().encode())
