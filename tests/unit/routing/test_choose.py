"""Routing: the first candidate that fits, on the host with the fewest sandboxes, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import IsolationLevel, IsolationSeen, Placement, Port, Selector
from sandboxer.routing import (
    Candidate,
    Choice,
    NoFit,
    Place,
    Wish,
    choose,
    isolation_objection,
    lease_ports,
    placement_objection,
)
from sandboxer.testing.builders import host
from sandboxer.testing.clock import EPOCH
from sandboxer.testing.fake import FakeExtension, FakeInputs, FakeWorld


class SecondExtension(FakeExtension):
    """Another backend, which cannot suspend."""

    name = "ext.second"
    capabilities = frozenset()


FAKE = Candidate(name="ext.fake", extension=FakeExtension(FakeWorld()), inputs=FakeInputs())
SECOND = Candidate(name="ext.second", extension=SecondExtension(FakeWorld()), inputs=FakeInputs())
FAST = Selector(match_labels={"disk": "fast"})


def place(
    name: str, sandboxes: int = 0, *, reachable: str = "True", leased: tuple[int, ...] = (),
    deleting: bool = False, labels: dict[str, str] | None = None, **spec: Any,
) -> Place:  # fmt: skip
    """Return a host that answers, with what is placed on it."""
    document = host(name, labels=labels, **spec).to_document()
    document["status"] = {
        "conditions": [
            {
                "type": "Reachable",
                "status": reachable,
                "reason": "Given",
                "message": "Given.",
                "lastTransitionTime": EPOCH.isoformat(),
            }
        ]
    }
    if deleting:
        document["metadata"]["deletionTimestamp"] = EPOCH.isoformat()
    found = Host.parse(document)
    return Place(host=found, sandboxes=sandboxes, leased_ports=frozenset(leased))


def wish(*candidates: Candidate, **fields: Any) -> Wish:
    return Wish(candidates=candidates or (FAKE,), **fields)


def test_takes_the_host_with_the_fewest() -> None:
    """Of the hosts that fit, the one with the fewest sandboxes is taken, then the first by name."""
    choice = choose(wish(), [place("h3", 1), place("h2", 1), place("h1", 2)])

    assert isinstance(choice, Choice)
    assert (choice.extension, choice.host) == ("ext.fake", "h2")


def test_takes_the_first_candidate_that_fits() -> None:
    """A later candidate is taken only when no host takes the earlier ones, and the reason says why."""
    refusing = place("h1", labels={"fake": "refuse"})

    choice = choose(
        wish(Candidate(name="ext.gone", objection="it is not loaded."), FAKE), [place("h1")]
    )
    nothing = choose(wish(), [refusing])

    assert isinstance(choice, Choice)
    assert choice.extension == "ext.fake"
    assert "ext.gone: it is not loaded." in choice.reason
    assert isinstance(nothing, NoFit)
    assert nothing.objections == ("ext.fake on h1: the label says no.",)


@pytest.mark.parametrize(
    ("unfit", "word"),
    [
        pytest.param(place("h1", unschedulable=True), "unschedulable", id="unschedulable"),
        pytest.param(place("h1", reachable="False"), "does not answer", id="unreachable"),
        pytest.param(place("h1", reachable="Unknown"), "not probed", id="never-probed"),
        pytest.param(place("h1", deleting=True), "deleted", id="deleting"),
        pytest.param(place("h1", 2, capacity={"sandboxes": 2}), "full", id="full"),
    ],
)
def test_host_that_takes_nothing(unfit: Place, word: str) -> None:
    """A host that cannot take anything is passed over with its reason."""
    refused = choose(wish(), [unfit])
    taken = choose(wish(), [unfit, place("h2", 900)])

    assert isinstance(refused, NoFit)
    assert word in refused.message
    assert isinstance(taken, Choice)
    assert taken.host == "h2"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"placement": Placement(host="h2")}, id="host"),
        pytest.param({"placement": Placement(host_selector=FAST)}, id="selector"),
    ],
)
def test_placement_is_followed(fields: dict[str, Any]) -> None:
    """Only the hosts the placement names are taken."""
    places = [place("h1"), place("h2", 5, labels={"disk": "fast"})]

    choice = choose(wish(**fields), places)

    assert isinstance(choice, Choice)
    assert choice.host == "h2"


def test_selector_of_a_candidate_is_followed() -> None:
    """A candidate's own selector counts for it alone."""
    fast = Candidate(
        name="ext.fake", extension=FAKE.extension, inputs=FAKE.inputs, host_selector=FAST
    )

    choice = choose(wish(fast, SECOND), [place("h1")])

    assert isinstance(choice, Choice)
    assert choice.extension == "ext.second"


def test_default_host() -> None:
    """The host of the settings is taken when the sandbox names none, and only then."""
    places = [place("h1"), place("h2")]

    free = choose(wish(), places, default_host="h2")
    named = choose(wish(placement=Placement(host="h1")), places, default_host="h2")
    missing = choose(wish(), places, default_host="h9")

    assert isinstance(free, Choice)
    assert isinstance(named, Choice)
    assert (free.host, named.host) == ("h2", "h1")
    assert isinstance(missing, NoFit)
    assert "h9" in missing.message


def test_isolation_is_a_minimum() -> None:
    """An offer that isolates less than the minimum does not fit, and says what was missing."""
    refused = choose(wish(minimum_isolation="container"), [place("h1")])
    taken = choose(wish(minimum_isolation="namespace"), [place("h1")])

    assert isinstance(refused, NoFit)
    assert "container is the minimum" in refused.message
    assert isinstance(taken, Choice)


def test_suspended_sandbox_needs_an_extension_that_can() -> None:
    """A sandbox that is to be suspended is not given an extension that cannot suspend."""
    choice = choose(wish(SECOND, FAKE, suspended=True), [place("h1")])

    assert isinstance(choice, Choice)
    assert choice.extension == "ext.fake"


def test_ports_are_leased_from_the_range() -> None:
    """Each port gets a free one of the host's range; a host without enough is passed over."""
    ports = (Port(name="web", container_port=80), Port(name="db", container_port=5432))
    narrow: dict[str, Any] = {"portRange": {"first": 42000, "last": 42002}}

    choice = choose(wish(ports=ports), [place("h1", leased=(42000,), **narrow)])
    refused = choose(wish(ports=ports), [place("h1", leased=(42000, 42001), **narrow)])

    assert isinstance(choice, Choice)
    assert choice.ports == {"web": 42001, "db": 42002}
    assert isinstance(refused, NoFit)


def test_no_port_needs_no_range() -> None:
    """A sandbox without ports fits on a host that has none free."""
    assert lease_ports((), place("h1").host.spec.port_range, frozenset(range(42000, 43000))) == {}


def test_message_is_bounded() -> None:
    """A fleet of hosts that do not fit does not make a message of megabytes."""
    refused = choose(wish(), [place(f"h{number}", unschedulable=True) for number in range(500)])

    assert isinstance(refused, NoFit)
    assert len(refused.message) < 5000
    assert "480 more" in refused.message


def test_no_host_at_all_says_what_to_do() -> None:
    """Without any host the message says that one is needed."""
    refused = choose(wish(), [])

    assert isinstance(refused, NoFit)
    assert "Host" in refused.message


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        pytest.param({}, True, id="free"),
        pytest.param({"placement": Placement(host="h1")}, True, id="same-host"),
        pytest.param({"placement": Placement(host="h2")}, False, id="other-host"),
        pytest.param({"placement": Placement(host_selector=FAST)}, False, id="selector"),
        pytest.param({"placement": Placement(extension="ext.second")}, False, id="extension"),
    ],
)
def test_placement_that_no_longer_allows(fields: dict[str, Any], allowed: bool) -> None:  # noqa: FBT001 - a case
    """A sandbox stays where its placement still allows it, whatever state the host is in."""
    objection = placement_objection(
        wish(FAKE, SECOND, **fields), "ext.fake", place("h1", unschedulable=True).host
    )

    assert (objection == "") == allowed


def test_placement_by_an_extension_that_is_gone_from_the_profile() -> None:
    """A sandbox does not stay with an extension its profile no longer offers."""
    assert placement_objection(wish(SECOND), "ext.fake", place("h1").host)


def test_unprobed_hosts_are_no_refusal() -> None:
    """Hosts that match and were not looked at yet are named, so that their probe is waited for."""
    wish = Wish(candidates=(FAKE,), placement=Placement(host_selector=FAST))
    places = [
        Place(host=host("new", labels={"disk": "fast"})),
        Place(host=host("other")),
        place("down", reachable="False", labels={"disk": "fast"}),
    ]

    found = choose(wish, places)

    assert isinstance(found, NoFit)
    assert found.unprobed == ("new",)
    assert "new" in found.waits_for


@pytest.mark.parametrize(
    ("seen", "objects"), [(None, False), ("container", False), ("vm", False), ("namespace", True)]
)
def test_isolation_below_the_minimum_is_objected_to(
    seen: IsolationLevel | None,
    objects: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """What is really enforced is held against the minimum; before that is known nothing is said."""
    wish = Wish(candidates=(FAKE,), minimum_isolation="container")
    enforced = IsolationSeen(level=seen, detail="By words.") if seen is not None else None

    objection = isolation_objection(wish, enforced)

    assert bool(objection) == objects
    assert not objects or "By words" in objection


def test_host_named_by_inputs() -> None:
    """Inputs that name a host go there, whatever the load and the default are."""
    named = Candidate(
        name="ext.fake", extension=FakeExtension(FakeWorld()), inputs=FakeInputs(), host="h2"
    )
    places = [place("h1"), place("h2", 5)]

    choice = choose(wish(named), places, default_host="h1")

    assert isinstance(choice, Choice)
    assert choice.host == "h2"
    assert placement_objection(wish(named), "ext.fake", places[1].host) == ""
    assert "h2" in placement_objection(wish(named), "ext.fake", places[0].host)


@pytest.mark.parametrize(
    ("asked", "word"),
    [pytest.param(None, "There is no host h2", id="missing"), pytest.param("h1", "asks", id="two")],
)
def test_host_named_by_inputs_that_cannot_be(asked: str | None, word: str) -> None:
    """A host nobody has, or one other than the placement's, fits nowhere and says why."""
    named = Candidate(
        name="ext.fake", extension=FakeExtension(FakeWorld()), inputs=FakeInputs(), host="h2"
    )

    answer = choose(wish(named, placement=Placement(host=asked)), [place("h1")])

    assert isinstance(answer, NoFit)
    assert word in answer.message


def test_host_on_which_an_extension_fails_is_avoided() -> None:
    """Another host, or another extension on the same one, is taken although it carries more."""
    failing = replace(place("h1"), failing={"ext.fake": "the host fails."})

    elsewhere = choose(wish(), [failing, place("h2", 5)])
    by_another = choose(wish(FAKE, SECOND), [failing])

    assert isinstance(elsewhere, Choice)
    assert elsewhere.host == "h2"
    assert "ext.fake on h1: the host fails." in elsewhere.reason
    assert isinstance(by_another, Choice)
    assert by_another.extension == "ext.second"


def test_failing_host_is_the_last_resort() -> None:
    """With nothing else it is taken by who may try there, and by nobody else."""
    failing = replace(place("h1"), failing={"ext.fake": "the host fails."})
    tried = replace(failing, open_to=frozenset({"ext.fake"}))

    refused = choose(wish(), [failing])
    choice = choose(wish(), [tried, place("h2", 1, labels={"fake": "refuse"})])
    spared = choose(wish(), [tried, place("h2", 1)])

    assert isinstance(refused, NoFit)
    assert refused.objections == ("ext.fake on h1: the host fails.",)
    assert isinstance(choice, Choice)
    assert "Nothing else fits, so it tries whether the host still fails." in choice.reason
    assert isinstance(spared, Choice)
    assert spared.host == "h2"
