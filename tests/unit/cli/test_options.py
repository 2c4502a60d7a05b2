"""Values typed on the command line."""

from __future__ import annotations

import click
import pytest

from sandboxer.cli.create import sandbox_from, typed_value
from sandboxer.cli.names import sandbox_name
from sandboxer.cli.options import DURATION, PAIR
from sandboxer.cli.wait import parse_goal
from sandboxer.errors import InvalidSpecError
from sandboxer.testing.builders import sandbox

NONE = dict.fromkeys(("profile", "host", "ttl", "actor", "project"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("5", 5),
        ("-2", -2),
        ("1.5", 1.5),
        ("007", "007"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("nan", "nan"),
        ("", ""),
        ("/path/to=x", "/path/to=x"),
    ],
)
def test_input_values_are_typed_as_in_json(text: str, value: object) -> None:
    """Only what is unmistakably a number or a truth value stops being text."""
    typed = typed_value(text)

    assert (typed, type(typed)) == (value, type(value))


def test_pair_splits_at_the_first_equal_sign() -> None:
    """The value may hold equal signs."""
    assert PAIR.convert("a=b=c", None, None) == ("a", "b=c")


@pytest.mark.parametrize("text", ["a", "=b"])
def test_pair_without_name_or_sign_is_refused(text: str) -> None:
    """A pair needs a name and a sign."""
    with pytest.raises(click.BadParameter):
        PAIR.convert(text, None, None)


def test_duration_is_refused_with_an_example() -> None:
    """A wrong duration says how one is written."""
    with pytest.raises(click.BadParameter, match="1h30m"):
        DURATION.convert("soon", None, None)


def test_create_without_arguments_is_the_canary() -> None:
    """No arguments make the canary, under a generated name."""
    made = sandbox_from(None, "default", inputs={}, env={}, **NONE)

    assert made.spec.profile == "profile.sandbox-canary"
    assert made.metadata.name.startswith("sandbox-canary-")
    assert made.spec.to_document() == type(made.spec)().to_document()


def test_create_writes_what_apply_would() -> None:
    """Every option ends up in the field of the manifest that it is sugar for."""
    options = {
        "profile": "profile.agent-dev", "host": "h1", "ttl": "2h", "actor": "agt", "project": "p",
    }  # fmt: skip

    made = sandbox_from("mine", "team", inputs={"repo": "/r"}, env={"A": "b"}, **options)

    assert made.metadata.namespace == "team"
    assert made.spec.placement.host == "h1"
    assert made.spec.lifetime.ttl == "2h"
    assert (made.spec.actor.type, made.spec.actor.project) == ("agt", "p")
    assert (made.spec.inputs, made.spec.env) == ({"repo": "/r"}, {"A": "b"})


def test_create_names_the_wrong_field() -> None:
    """A value no manifest may hold is refused by field."""
    with pytest.raises(InvalidSpecError, match=r"metadata\.name"):
        sandbox_from("Not A Name", "default", inputs={}, env={}, **NONE)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param("jsonpath={.metadata.name}=box", True, id="value"),
        pytest.param("jsonpath={.metadata.name}=", False, id="empty"),
        pytest.param("jsonpath={.metadata.name}=a=b", False, id="equals-in-value"),
        pytest.param("jsonpath='{.metadata.name}'=box", True, id="quoted"),
        pytest.param('jsonpath={.status.conditions[?(@.type=="Ready")].status}', True, id="there"),
        pytest.param("jsonpath={.status.conditions[?(@.type=='No')].status}", False, id="absent"),
        pytest.param(
            'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True, id="filter"
        ),
        pytest.param(
            'jsonpath={.status.conditions[?(@.type=="}=")].status}=True', False, id="braces"
        ),
    ],
)
def test_goal_of_a_value(text: str, *, holds: bool) -> None:
    """What a template compares with is part of it, and what follows it is the value."""
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    status = {"conditions": [condition]}
    box = sandbox("box", status=status)

    judge = parse_goal(text).holds

    assert judge is not None
    assert judge(box) is holds


@pytest.mark.parametrize("text", ["Ready", "condition", "condition=", "delete=x", "jsonpath="])
def test_goal_of_unknown_form_is_refused(text: str) -> None:
    """`--for` takes three forms and says which."""
    with pytest.raises(click.UsageError, match="condition=TYPE"):
        parse_goal(text)


@pytest.mark.parametrize("word", ["prod/hello", "host/hello", "sbx/", "/hello", "a/b/c"])
def test_what_is_no_sandbox_is_refused(word: str) -> None:
    """A namespace before a name is not taken for a kind, and not overlooked either."""
    with pytest.raises(click.UsageError):
        sandbox_name(word)


def test_a_namespace_before_a_name_is_explained() -> None:
    """The form that `explain` prints is refused with the form that it takes."""
    assert (sandbox_name("hello"), sandbox_name("sbx/hello")) == ("hello", "hello")
    with pytest.raises(click.UsageError, match=r"say: hello -n prod"):
        sandbox_name("prod/hello")
