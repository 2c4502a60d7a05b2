"""What a pool makes, spares and exchanges, from what it counts."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.engine.members import Member
from sandboxer.engine.pools import plan, template_hash
from sandboxer.kinds.meta import API_VERSION, Key
from sandboxer.kinds.pool import SandboxPool, SandboxTemplate
from sandboxer.testing.clock import EPOCH

NOW, OLD = "now", "old"
Truth = Literal["True", "False", "Unknown"]


def pool(replicas: int, policy: str = "Replace") -> SandboxPool:
    """Return a pool of so many."""
    document = {
        "apiVersion": API_VERSION,
        "kind": "SandboxPool",
        "metadata": {"name": "warm", "namespace": "default"},
        "spec": {"replicas": replicas, "updatePolicy": policy},
    }
    return SandboxPool.parse(document)


def member(
    name: str, ready: Truth = "True", template: str = NOW, *, age_s: int = 0, deleting: bool = False
) -> Member:
    """Return a member that is Ready and of the present template, unless something else is said."""
    return Member(
        key=Key("Sandbox", "default", name),
        uid=name,
        pool=Key("SandboxPool", "default", "warm"),
        pool_uid="u",
        template=template,
        deleting=deleting,
        ready=ready,
        failure="",
        created_at=EPOCH - timedelta(seconds=age_s),
    )


def deleted(replicas: int, *members: Member, policy: str = "Replace") -> list[str]:
    """Return the names of what the plan deletes."""
    return [doomed.key.name for doomed in plan(pool(replicas, policy), members, NOW).delete]


def test_the_least_useful_goes_first() -> None:
    """Not ready before ready, another template before the present one, new before old."""
    members = [
        member("old", age_s=9),
        member("new", age_s=1),
        member("outdated", template=OLD, age_s=5),
        member("starting", "False", age_s=7),
    ]

    assert deleted(0, *members) == ["starting", "outdated", "new", "old"]
    assert deleted(3, *members) == ["starting"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param([member("a", template=OLD), member("b", template=OLD, age_s=1)], ["b"], id="one"),
        pytest.param([member("a", template=OLD), member("b", "False")], [], id="wait-for-new"),
        pytest.param([member("a", "False", OLD), member("b", "False", OLD)], ["a", "b"], id="useless"),
        pytest.param([member("a", "Unknown", OLD), member("b")], [], id="silent-host"),
        pytest.param([member("a"), member("b")], [], id="noop"),
    ],
)  # fmt: skip
def test_the_outdated_is_exchanged(members: list[Member], expected: list[str]) -> None:
    """One at a time while all are ready; at once what serves nobody; never what nobody can see."""
    assert deleted(2, *members) == expected


def test_on_delete_exchanges_nothing() -> None:
    """Not even what is not ready."""
    assert deleted(1, member("a", "False", OLD), policy="OnDelete") == []


def test_what_is_being_deleted_does_not_count() -> None:
    """Its replacement is made while it goes."""
    planned = plan(pool(2), [member("a"), member("b", deleting=True)], NOW)

    assert (planned.create, planned.delete) == (1, ())


MEMBERS = st.lists(
    st.builds(
        member,
        name=st.uuids().map(str),
        ready=st.sampled_from(["True", "False", "Unknown"]),
        template=st.sampled_from([NOW, OLD]),
        age_s=st.integers(0, 5),
        deleting=st.booleans(),
    ),
    max_size=8,
)


@given(
    members=MEMBERS,
    replicas=st.integers(0, 8),
    policy=st.sampled_from(["Replace", "OnDelete"]),
)
def test_a_plan_never_goes_too_far(members: list[Member], replicas: int, policy: str) -> None:
    """It makes what is missing, deletes no more than is too much or one that is ready, never twice."""
    planned = plan(pool(replicas, policy), members, NOW)

    current = [known for known in members if not known.deleting]
    ready = [known for known in planned.delete if known.ready == "True"]
    assert planned.create == max(0, replicas - len(current))
    assert not (planned.create and planned.delete)
    assert not any(known.deleting for known in planned.delete)
    assert len(ready) <= max(1, len(current) - replicas)
    if len(current) <= replicas:
        assert all(known.template == OLD for known in planned.delete)


def _template(**spec: Any) -> SandboxTemplate:
    return SandboxTemplate.model_validate_json(json.dumps({"spec": spec}), by_alias=True)


def test_a_template_is_told_by_what_it_says() -> None:
    """Another value is another template; a default that is written out is not."""
    plain = template_hash(_template(profile="p"))

    assert template_hash(_template(profile="q")) != plain
    assert template_hash(_template(profile="p", driftPolicy="Repair")) == plain
