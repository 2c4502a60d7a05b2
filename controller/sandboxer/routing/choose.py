"""
Where a sandbox goes: the first candidate that fits, on the host with the fewest sandboxes.

Pure: everything it judges by is given to it. Every extension and host that was not taken has its
sentence, which becomes the message of condition `Routed` and the first thing a person reads when
nothing fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandboxer.extension import Extension, Inputs
from sandboxer.kinds.host import Host, PortRange
from sandboxer.kinds.sandbox import ISOLATION_ORDER, IsolationLevel, IsolationSeen, Port, Selector
from sandboxer.routing.wish import Candidate, Wish

# Sentences of a message about what was not taken. A fleet of thousands would make a status of
# megabytes; twenty show the pattern.
MAX_OBJECTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host and what is leased on it."""

    host: Host
    sandboxes: int = 0
    """Sandboxes placed there, and those that come next."""
    leased_ports: frozenset[int] = frozenset()
    """Host ports leased to them."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """By extension whose actions keep failing there: why, as a sentence."""
    open_to: frozenset[str] = frozenset()
    """Those of them that the sandbox may try nevertheless, when nothing else fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen."""

    extension: str
    host: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """Leased host port, by port name."""
    reason: str = ""
    """Why this one, and why not the others, in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFit:
    """Nothing fits now; it is tried again when a host or an extension changes."""

    objections: tuple[str, ...]
    """One sentence for each candidate or (candidate, host), in the order they were tried."""
    unprobed: tuple[str, ...] = ()
    """Hosts that were not looked at yet, so that they may fit; sorted names."""

    @property
    def message(self) -> str:
        """The objections as one text."""
        return _bounded(self.objections) or "There is no host. Apply a Host document."

    @property
    def waits_for(self) -> str:
        """What has to be known before it can be said that nothing fits."""
        names = self.unprobed
        shown = ", ".join(names[:MAX_OBJECTIONS]) + (", …" if len(names) > MAX_OBJECTIONS else "")
        return f"It waits for the first probe of host {shown}."


def choose(
    wish: Wish, places: Sequence[Place], *, default_host: str | None = None
) -> Choice | NoFit:
    """
    Choose an extension and a host for *wish*.

    Args:
        wish: What is asked for; its candidates are tried in order.
        places: All hosts, in any order.
        default_host: Taken when neither wish nor inputs name a host (`SANDBOXER_HOST`).
    """
    found = _choose(wish, places, default_host=default_host, last_resort=False)
    if isinstance(found, Choice) or not any(place.open_to for place in places):
        return found
    trial = _choose(wish, places, default_host=default_host, last_resort=True)
    return trial if isinstance(trial, Choice) else found


def _choose(
    wish: Wish, places: Sequence[Place], *, default_host: str | None, last_resort: bool
) -> Choice | NoFit:
    objections: list[str] = []
    unprobed: set[str] = set()
    by_load = sorted(places, key=lambda place: (place.sandboxes, place.host.metadata.name))
    for candidate in wish.candidates:
        wanted_host = wish.placement.host or candidate.host or default_host
        objection = candidate_objection(wish, candidate) or _host_missing(wanted_host, places)
        if objection:
            objections.append(objection)
            continue
        for place in by_load:
            if wanted_host is not None and place.host.metadata.name != wanted_host:
                continue
            judged = _judge(wish, candidate, place, last_resort=last_resort)
            if isinstance(judged, Choice):
                return _explained(judged, objections)
            objections.append(judged)
            if _is_selected(wish, candidate, place.host) and _is_unprobed(place.host):
                unprobed.add(place.host.metadata.name)
    return NoFit(objections=tuple(objections), unprobed=tuple(sorted(unprobed)))


def still_fits(
    wish: Wish, choice: Choice, place: Place, *, default_host: str | None = None
) -> bool:
    """
    Tell whether what was chosen before, and counts in *place*, would fit as well today.

    Args:
        wish: What is asked for now.
        choice: What was set aside for it.
        place: The host of that choice.
        default_host: As for `choose`.
    """
    candidate = wish.candidate(choice.extension)
    if candidate is None or candidate_objection(wish, candidate):
        return False
    if (wish.placement.host or candidate.host or default_host) not in (None, choice.host):
        return False
    others = place.leased_ports - frozenset(choice.ports.values())
    without = replace(place, sandboxes=max(0, place.sandboxes - 1), leased_ports=others)
    named = choice.ports.keys() == {port.name for port in wish.ports}
    return named and isinstance(_judge(wish, candidate, without, last_resort=False), Choice)


def candidate_objection(wish: Wish, candidate: Candidate) -> str:
    """Return why this candidate cannot be taken on any host, or an empty text."""
    if wish.placement.extension not in (None, candidate.name):
        return f"{candidate.name}: the sandbox asks for {wish.placement.extension}."
    if candidate.extension is None or candidate.inputs is None:
        return f"{candidate.name}: {candidate.objection}"
    if candidate.host and wish.placement.host not in (None, candidate.host):
        return (
            f"{candidate.name}: its inputs name host {candidate.host}, and the sandbox asks for "
            f"host {wish.placement.host}."
        )
    if wish.suspended and "suspend" not in candidate.extension.capabilities:
        return f"{candidate.name}: it cannot suspend a sandbox."
    return ""


def placement_objection(wish: Wish, extension: str, host: Host | None) -> str:
    """
    Return why a sandbox may not stay where it was placed, or an empty text.

    Only what its owner may say counts (candidates, placement); a host that is full, cordoned or
    down keeps what it has.
    """
    candidate = wish.candidate(extension)
    if candidate is None:
        return f"The profile no longer offers {extension}."
    if wish.placement.extension not in (None, extension):
        return f"The sandbox asks for {wish.placement.extension} and runs by {extension}."
    if host is None:
        return ""
    name = host.metadata.name
    for wanted in (wish.placement.host, candidate.host):
        if wanted and wanted != name:
            return f"The sandbox asks for host {wanted} and is placed on {name}."
    if not _is_selected(wish, candidate, host):
        return f"The labels of host {name} no longer match the selector."
    return ""


def isolation_objection(wish: Wish, seen: IsolationSeen | None) -> str:
    """Return why what is enforced is less than the wish's minimum, or an empty text."""
    if seen is None or not _is_weaker(seen.level, wish.minimum_isolation):
        return ""
    detail = f" ({seen.detail.rstrip('.')})" if seen.detail else ""
    return (
        f"It would be isolated by {seen.level}{detail}, and {wish.minimum_isolation} is the "
        "minimum. Lower spec.isolation.minimum, or place it elsewhere."
    )


def lease_ports(
    ports: Iterable[Port], port_range: PortRange, leased: frozenset[int]
) -> dict[str, int] | None:
    """Return a free host port for each port, lowest first; None when there are not enough."""
    free = (port for port in range(port_range.first, port_range.last + 1) if port not in leased)
    leases = {port.name: next(free, None) for port in ports}
    if None in leases.values():
        return None
    return {name: port for name, port in leases.items() if port is not None}


def _host_missing(wanted_host: str | None, places: Sequence[Place]) -> str:
    names = {place.host.metadata.name for place in places}
    return "" if wanted_host in (None, *names) else f"There is no host {wanted_host}."


def _judge(wish: Wish, candidate: Candidate, place: Place, *, last_resort: bool) -> Choice | str:
    host = place.host
    label = f"{candidate.name} on {host.metadata.name}"
    if not _is_selected(wish, candidate, host):
        return f"{label}: its labels do not match the selector."
    objection = _host_objection(place)
    if objection:
        return f"{label}: {objection}"
    failing = place.failing.get(candidate.name, "")
    if failing and not (last_resort and candidate.name in place.open_to):
        return f"{label}: {failing}"
    assert candidate.extension is not None
    assert candidate.inputs is not None
    answer = _offer(wish, candidate.extension, candidate.inputs, host)
    if answer.refused:
        return f"{label}: {answer.refused}"
    leases = lease_ports(wish.ports, host.spec.port_range, place.leased_ports)
    if leases is None:
        ports = host.spec.port_range
        return f"{label}: no port between {ports.first} and {ports.last} is free."
    tries = " Nothing else fits, so it tries whether the host still fails." if failing else ""
    reason = f"{label}: {answer.reason}{tries}"
    return Choice(extension=candidate.name, host=host.metadata.name, ports=leases, reason=reason)


def _host_objection(place: Place) -> str:  # noqa: PLR0911 - a table, one return a row
    host = place.host
    if host.metadata.deletion_timestamp is not None:
        return "the host is being deleted."
    if not host.spec.takes_new:
        cordoned = host.spec.drain == "Keep"
        return f"the host is {'marked unschedulable' if cordoned else 'being drained'}."
    if _is_unprobed(host):
        return "the host was not probed yet."
    reachable = host.status.condition("Reachable")
    if reachable is not None and reachable.status == "False":
        return f"the host does not answer. {reachable.message}"
    disk = host.status.condition("DiskPressure")
    if disk is not None and disk.status == "True":
        return f"the host has a full disk. {disk.message}"
    if place.sandboxes >= host.spec.capacity.sandboxes:
        return f"the host is full with {place.sandboxes} sandboxes."
    return ""


@dataclass(frozen=True, slots=True)
class _Answer:
    reason: str
    refused: str = ""


def _offer(wish: Wish, extension: Extension, inputs: Inputs, host: Host) -> _Answer:
    offer = extension.offer(host, inputs)
    if not offer.fits:
        return _Answer(offer.reason, refused=offer.reason)
    if _is_weaker(offer.isolation, wish.minimum_isolation):
        return _Answer(
            offer.reason,
            refused=f"it isolates by {offer.isolation}, and {wish.minimum_isolation} is the minimum.",
        )
    return _Answer(offer.reason)


def _is_weaker(level: IsolationLevel, minimum: IsolationLevel) -> bool:
    return ISOLATION_ORDER.index(level) < ISOLATION_ORDER.index(minimum)


def _is_unprobed(host: Host) -> bool:
    reachable = host.status.condition("Reachable")
    return reachable is None or reachable.status == "Unknown"


def _is_selected(wish: Wish, candidate: Candidate, host: Host) -> bool:
    selectors = (wish.placement.host_selector, candidate.host_selector)
    return all(_selects(selector, host.metadata.labels) for selector in selectors)


def _selects(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    return selector is None or selector.match_labels.items() <= labels.items()


def _explained(choice: Choice, objections: list[str]) -> Choice:
    if not objections:
        return choice
    return Choice(
        extension=choice.extension,
        host=choice.host,
        ports=choice.ports,
        reason=f"{choice.reason} Not taken: {_bounded(objections)}",
    )


def _bounded(objections: Sequence[str]) -> str:
    shown = " ".join(objections[:MAX_OBJECTIONS])
    rest = len(objections) - MAX_OBJECTIONS
    return f"{shown} And {rest} more." if rest > 0 else shown
