"""
Waiting where a person can see what for.

On a terminal one status line that changes in place; elsewhere one plain line per change. Both go
to stderr, so results on stdout stay clean. What is waited for is a function without arguments that
looks at mirrors of the objects; `Access` decides who does the work meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from sandboxer.cli.exits import RefusedError, TimedOutError
from sandboxer.cli.printing import note, safe_text
from sandboxer.errors import NotFoundError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import Condition, Key, Resource
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.mirror import Mirrors

T = TypeVar("T")

# Objects that an error names; more would hide the message.
MAX_NAMED = 5

# What becomes of an object once nobody waits for it any more.
ON_ITS_OWN = "The controller goes on with it; --timeout waits longer."
LEFT_ALONE = "It stays as it is, as no controller runs; another command that waits goes on with it."

Until = Callable[[], bool]
Question = Callable[["Mirrors"], Until]


def is_current(resource: Resource, condition: Condition) -> bool:
    """Tell whether a condition speaks about the newest spec, as `kubectl wait` judges it."""
    generation = resource.metadata.generation
    observed: int = getattr(getattr(resource, "status", None), "observed_generation", 0)
    return condition.observed_generation >= generation and observed >= generation


def current_condition(resource: Resource, type_: str) -> Condition | None:
    """Return a condition, unless it is about an older spec."""
    status = getattr(resource, "status", None)
    condition: Condition | None = status.condition(type_) if status is not None else None
    return condition if condition is not None and is_current(resource, condition) else None


def state_line(resource: Resource | None) -> str:
    """Return what is happening to an object, as one short line."""
    if resource is None:
        return "gone"
    status = getattr(resource, "status", None)
    phase = getattr(status, "phase", "")
    if resource.metadata.deletion_timestamp is not None:
        phase = "Terminating"
    told = _telling(resource)
    message = f": {told.message or told.reason}" if told is not None else ""
    return safe_text(f"{phase or 'Pending'}{message}")


def _telling(resource: Resource) -> Condition | None:
    """Return the condition that says why the object is not done; the earliest stage wins."""
    for type_ in ("Stalled", "Accepted", "Routed", "HostReachable", "Provisioned", "Ready"):
        condition = current_condition(resource, type_)
        bad = "True" if type_ == "Stalled" else "False"
        if condition is not None and condition.status in (bad, "Unknown"):
            return condition
    return None


def refuse_stalled(resource: Resource) -> None:
    """
    Give up on an object that only a person can help.

    Raises:
        RefusedError: It is Stalled, or its document was refused.
    """
    for type_, bad in (("Accepted", "False"), ("Stalled", "True")):
        condition = current_condition(resource, type_)
        if condition is not None and condition.status == bad:
            raise RefusedError(
                f"{resource.kind} {resource.metadata.name}: "
                f"{safe_text(condition.message or condition.reason)}",
                reason=condition.reason,
                remedy=f"See: sandboxer describe {resource.kind.lower()} {resource.metadata.name}",
            )


def refuse_going(key: Key, resource: Resource | None) -> Resource:
    """
    Give up on an object that is gone or going, and return any other.

    Raises:
        NotFoundError: It was deleted.
        RefusedError: It is being deleted.
    """
    if resource is None:
        raise NotFoundError(f"{key} was deleted while it was waited for.")
    if resource.metadata.deletion_timestamp is not None:
        raise RefusedError(f"{key} is being deleted, so it will not become Ready.")
    return resource


class Judged(Generic[T]):
    """
    What a function says of objects, asked again only for those that changed.

    A wait for thousands of objects asks after every change of one of them; reading all of them each
    time would take longer than making them.
    """

    def __init__(self, mirrors: Mirrors, judge: Callable[[Key, Resource | None], T]) -> None:
        self._mirrors = mirrors
        self._judge = judge
        self._known: dict[Key, tuple[str, T]] = {}

    def __call__(self, key: Key) -> T:
        """Return what is true of an object as it is now."""
        entry = self._mirrors.entry(key)
        revision = entry.revision if entry is not None else ""
        known = self._known.get(key)
        if known is None or known[0] != revision:
            known = (revision, self._judge(key, self._mirrors.get(key)))
            self._known[key] = known
        return known[1]


class Progress:
    """Shows the state of some objects while they change."""

    def __init__(self, mirrors: Mirrors, keys: Sequence[Key]) -> None:
        self._line = Judged(mirrors, lambda _, resource: state_line(resource))
        self._keys = keys
        self._shown: dict[Key, str] = {}
        self._status: Callable[[str], None] | None = None

    def show(self) -> None:
        """Show what differs from what was shown last."""
        for key in self._keys:
            line = self._line(key)
            if self._shown.get(key) == line:
                continue
            self._shown[key] = line
            text = f"{key.kind.lower()}/{key.name}: {line}"
            (self._status or note)(text)

    @contextmanager
    def visible(self) -> Iterator[None]:
        """Own the last line of the terminal, if stderr is one."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("") as status:
            self._status = lambda text: status.update(escape(text))
            try:
                yield
            finally:
                self._status = None


async def settle(
    access: Access,
    keys: Sequence[Key],
    question: Question,
    *,
    timeout_s: float,
    besides: Sequence[Key] = (),
) -> float:
    """
    Wait until a question is answered with yes and return the seconds it took.

    Args:
        access: The way to the API; reconciles here when no controller runs.
        keys: Objects that are waited for.
        question: Given mirrors of them, returns what to ask; that may raise to give up.
        timeout_s: Seconds.
        besides: Objects that matter to it and that nobody waits for, such as hosts.

    Raises:
        TimedOutError: It did not come in time; the message says how far it came.
    """
    from sandboxer.client.mirror import Mirrors

    started = time.monotonic()
    mirrors = Mirrors(access.client, {key: KINDS[key.kind] for key in keys})
    progress = Progress(mirrors, keys)
    done = question(mirrors)

    def until() -> bool:
        progress.show()
        return done()

    try:
        async with asyncio.timeout(timeout_s):
            await mirrors.start()
            with progress.visible():
                await access.settle(mirrors, [*keys, *besides], until)
    except TimeoutError as error:
        if not await access.client.is_ready():
            where = access.client.server.where
            raise TimedOutError(
                f"Not done after {timeout_s:g} s: the API at {where} does not answer.",
                remedy="What becomes of it is not known; ask again when it does.",
            ) from error
        raise _too_late(mirrors, keys, timeout_s, working=access.somebody_works()) from error
    finally:
        await mirrors.stop()
    return time.monotonic() - started


def _too_late(
    mirrors: Mirrors, keys: Sequence[Key], timeout_s: float, *, working: bool
) -> TimedOutError:
    unready = [key for key in keys if not _is_fine(mirrors.get(key))]
    # What is waited for need not be Ready: then those that are stand for themselves.
    late = unready or list(keys)
    states = "; ".join(
        f"{key.kind.lower()}/{key.name} is {state_line(mirrors.get(key))}"
        for key in late[:MAX_NAMED]
    )
    if len(late) > MAX_NAMED:
        states += f"; and {len(late) - MAX_NAMED} more"
    return TimedOutError(
        f"Not done after {timeout_s:g} s: {states.removesuffix('.')}.",
        remedy=ON_ITS_OWN if working else LEFT_ALONE,
    )


def _is_fine(resource: Resource | None) -> bool:
    return isinstance(resource, Sandbox) and resource.status.is_true("Ready")


def ready(keys: Sequence[Key]) -> Question:
    """
    Return the question "are all of these Ready?" of objects that were there before it is asked.

    It gives up on what is Stalled, and on what is gone or going.
    """

    def is_ready(key: Key, found: Resource | None) -> bool:
        resource = refuse_going(key, found)
        refuse_stalled(resource)
        condition = current_condition(resource, "Ready")
        return condition is not None and condition.status == "True"

    return asked(keys, is_ready)


def asked(keys: Sequence[Key], judge: Callable[[Key, Resource | None], bool]) -> Question:
    """
    Return the question whether a judgement holds of all objects.

    Every object is judged each time, so that one that gave up is not hidden by one that is not done.
    """

    def question(mirrors: Mirrors) -> Until:
        judged = Judged(mirrors, judge)

        def done() -> bool:
            held = [judged(key) for key in keys]
            return all(held)

        return done

    return question


def gone(uids: dict[Key, str]) -> Question:
    """Return the question "are all of these, with these uids, gone?"."""

    def question(mirrors: Mirrors) -> Until:
        def done() -> bool:
            entries = {key: mirrors.entry(key) for key in uids}
            return all(entry is None or entry.uid != uids[key] for key, entry in entries.items())

        return done

    return question
