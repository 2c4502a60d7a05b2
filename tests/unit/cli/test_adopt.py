"""Which installation is taken over, and what is in doubt, is decided before anything is done."""

from __future__ import annotations

import pytest

from sandboxer.cli.adopt import Found, Survey, _chosen, _without_doubles
from sandboxer.errors import NotFoundError, TerminalError
from sandboxer.kinds.adoption import LostSandbox


def found(
    environment: str, *, name: str = "a", uid: str = "u", host: str = "h1", signed: bool = False
) -> Found:
    """Return something lost."""
    what = LostSandbox(
        uid=uid, namespace="default", name=name, environment=environment, extension="ext.fake",
        state="Running", is_ours=signed,
    )  # fmt: skip
    return Found(host, what)


def chosen(
    *lost: Found, named: str = "", is_used: bool = False, trusts: bool = False, silent: str = "",
    is_of_all: bool = True,
) -> str:  # fmt: skip
    """Return the installation that is chosen by the one with the id `own`."""
    unanswered = [silent] if silent else []
    survey = Survey(own="own", found=list(lost), is_of_all=is_of_all, unanswered=unanswered)
    return _chosen(survey, named, is_used=is_used, trusts=trusts)


def test_nothing_lost_is_ones_own() -> None:
    """Where nothing is lost, nothing is taken over."""
    assert chosen() == "own"


def test_ones_own_comes_first() -> None:
    """Somebody else's sandboxes beside one's own are left alone, signed or not."""
    assert chosen(found("own"), found("x", signed=True)) == "own"


def test_a_used_store_keeps_its_id() -> None:
    """What others have there is nothing to a store with sandboxes."""
    assert chosen(found("x", signed=True), is_used=True) == "own"


def test_the_key_decides() -> None:
    """Of several the one that was signed here is it, also when a host is silent."""
    assert chosen(found("x"), found("y", signed=True), found("z"), silent="h2") == "y"


def test_a_person_decides() -> None:
    """What is named is it, if anybody has seen it."""
    assert chosen(found("x"), found("y", signed=True), named="x") == "x"
    with pytest.raises(NotFoundError):
        chosen(found("x"), named="q")


@pytest.mark.parametrize(
    ("lost", "trusts", "silent"),
    [
        pytest.param([found("x")], False, "", id="a stranger's"),
        pytest.param([found("x"), found("y")], True, "", id="two, trusted"),
        pytest.param([found("x")], True, "h2", id="a host is silent"),
        pytest.param(
            [found("x", signed=True), found("y", signed=True)], False, "", id="two, signed"
        ),
    ],
)
def test_in_doubt_nothing_is_taken(lost: list[Found], trusts: bool, silent: str) -> None:  # noqa: FBT001 - a case
    """No installation is taken over by accident."""
    with pytest.raises(TerminalError):
        chosen(*lost, trusts=trusts, silent=silent)


def test_the_only_one_is_taken_from_trusted_hosts() -> None:
    """When the key was lost too, trust in all hosts is enough for the only installation there."""
    lost = (found("x"), found("x", host="h2", uid="v", name="b"))

    assert chosen(*lost, trusts=True) == "x"
    with pytest.raises(TerminalError):
        chosen(*lost, trusts=True, is_of_all=False)


def test_doubles_are_left_to_a_person() -> None:
    """A uid on two hosts, and a name of two uids, are adopted by nobody's guess."""
    judged = _without_doubles([
        found("x", host="h1"), found("x", host="h2"),
        found("x", name="b", uid="v"), found("x", name="b", uid="w"),
        found("x", name="c", uid="z"),
    ])  # fmt: skip

    assert [bool(each.what.objection) for each in judged] == [True, True, True, True, False]
    assert "h1, h2" in judged[0].what.objection
