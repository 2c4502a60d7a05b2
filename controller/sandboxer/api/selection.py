"""Which objects of a collection a request is about: its namespace and its selectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from sandboxer.api import fieldselectors, selectors
from sandboxer.api.answers import StatusError
from sandboxer.api.listoptions import ListOptions
from sandboxer.api.served import Collection
from sandboxer.api.targets import Target
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.meta import Key
from sandboxer.store import Entry

_KEY = attrgetter("key")


@dataclass(frozen=True, slots=True)
class Selection:
    """Made by `selection_of`."""

    namespace: str | None
    """None means all."""
    labels: selectors.Selector
    fields: fieldselectors.FieldSelector

    @property
    def is_everything(self) -> bool:
        """Whether no selector narrows it."""
        return not self.labels and not self.fields

    @property
    def is_by_key(self) -> bool:
        """Whether identity alone decides, so that no change of an object moves it in or out."""
        by_key = (fieldselectors.NAME, fieldselectors.NAMESPACE)
        return not self.labels and all(term.path in by_key for term in self.fields)

    def has_in_scope(self, key: Key) -> bool:
        """Tell whether an object is in the namespace asked for."""
        return self.namespace is None or key.namespace == self.namespace

    def fits(self, entry: Entry) -> bool:
        """Tell whether an object is asked for."""
        return (
            self.has_in_scope(entry.key)
            and (not self.labels or selectors.matches(self.labels, entry.labels))
            and (not self.fields or fieldselectors.matches(self.fields, entry))
        )

    def among(self, collection: Collection) -> list[Entry]:
        """Return the objects asked for, by namespace and name."""
        if self.is_everything:
            return sorted(collection.entries(self.namespace), key=_KEY)
        return sorted(filter(self.fits, self._candidates(collection)), key=_KEY)

    def _candidates(self, collection: Collection) -> Iterable[Entry]:
        """Return the one object that a name picks, or everything in the namespace."""
        names = [t.value for t in self.fields if t.path == fieldselectors.NAME and t.wanted]
        if names and self.namespace is not None:
            entry = collection.get(self.namespace, names[0])
            return () if entry is None else (entry,)
        return collection.entries(self.namespace)


def selection_of(target: Target, options: ListOptions) -> Selection:
    """
    Return what a request selects.

    Raises:
        StatusError: 400, a selector cannot be read or asks for what is not supported.
    """
    try:
        labels = selectors.parse(options.label_selector)
    except InvalidSpecError as error:
        raise StatusError(400, str(error)) from error
    fields = fieldselectors.parse(options.field_selector, target.served.selectable)
    return Selection(target.namespace, labels, fields)
