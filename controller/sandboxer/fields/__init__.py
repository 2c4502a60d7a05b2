"""
Who owns which field: Kubernetes' server-side apply over plain JSON documents, pure.

    document = {"apiVersion": …, "kind": "Sandbox", "metadata": {…}, "spec": {…}}

Everything here takes and returns JSON documents (camelCase keys, what `json.loads` gives) and
changes none of its arguments. Which lists and maps are merged, and by what, is read from the
models of `sandboxer.kinds`. Ownership is `metadata.managedFields`, as Kubernetes writes it.

    apply(live, config, *, manager, force, now, subresource="") -> Merged
        Server-side apply. *live* is the stored document, None when there is none; *config* is what
        the client sent, without defaults. `Merged.document` is the whole new document with its new
        managedFields, to be validated as the kind and written with compare-and-set; what the
        server owns (uid, resourceVersion, …) is live's, whatever *config* says of it: a uid or
        resourceVersion in *config* is the caller's precondition. `Merged.changed` is False when
        document and owners are as they were. On the main resource `status` of *config* is ignored,
        on `subresource="status"` everything but `status` is. Raises `FieldConflictError` when
        others own what would change and *force* is not set, `InvalidSpecError` when *config* has
        managedFields, or a keyed list whose items have no key or the same.

    update(live, new, *, manager, now, subresource="") -> list[dict]
        Every other write. Returns the managedFields that *new* is to be stored with: what differs
        from *live* (None for a create) becomes *manager*'s, everything else stays with its owners.
        *live* and *new* are whole documents as they are stored (defaults filled in); for a create
        it may be what the client wrote, then defaults belong to nobody. managedFields of *new* are
        obeyed as Kubernetes does: absent or not readable keeps live's, `[]` or `[{}]` forgets all
        owners, anything else is taken for the owners before this write.

    manager_name(field_manager, user_agent) -> str
        The name for an entry: ?fieldManager=, else the User-Agent up to the first `/`. Raises
        `InvalidSpecError` when it has more than 128 characters or one that cannot be printed.

    FieldConflictError.message   `Apply failed with 1 conflict: conflict with "x" using …: .spec.a`
    FieldConflictError.causes    list of Cause; cause.message is `conflict with "x" using …`,
                                 cause.field is `.spec.a`, as they stand in a Status

`FieldSet` is one owned set; `FieldSet.from_json` and `to_json` speak FieldsV1.

Design notes: an owned path that the schema does not know is a plain map, list or value. A null in
*config* is a field that is not there. Fields that nobody owns (the controller's own writes are not
noted) are kept when an applied neighbour goes, unless they are only the defaults of what goes.
"""

from sandboxer.fields.conflicts import Cause, FieldConflictError
from sandboxer.fields.managers import manager_name
from sandboxer.fields.ownership import Merged, apply, update
from sandboxer.fields.sets import FieldSet

__all__ = [
    "Cause",
    "FieldConflictError",
    "FieldSet",
    "Merged",
    "apply",
    "manager_name",
    "update",
]
