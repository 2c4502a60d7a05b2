"""Write an object's spec while a controller writes its status."""

from __future__ import annotations

from typing import Any, TypeVar

from sandboxer.errors import ConflictError
from sandboxer.kinds.meta import Resource
from sandboxer.store import Store

R = TypeVar("R", bound=Resource)


async def change_spec(store: Store, model: type[R], name: str, **fields: Any) -> R:
    """
    Set fields of an object's spec, read anew for as long as somebody else writes it meanwhile.

    The fields have their names in a document, and are replaced as a whole.
    """
    while True:
        found = store.get(model, name)
        assert found is not None
        document = found.to_document()
        document["spec"] |= fields
        try:
            return await store.update(model.parse(document))
        except ConflictError:
            await store.write([])  # Has it read what another process wrote.
