"""Objects as text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import click
import pytest
import yaml

from sandboxer.cli.printing import printer_for, safe_text, table
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import Condition, ObjectMeta
from sandboxer.kinds.sandbox import Sandbox, SandboxSpec, SandboxStatus


def sandbox(name: str, *, message: str = "") -> Sandbox:
    now = datetime.now(UTC)
    condition = Condition(
        type="Ready", status="True", reason="Ready", message=message, last_transition_time=now
    )
    return Sandbox(
        metadata=ObjectMeta(
            name=name, namespace="default", creation_timestamp=now - timedelta(minutes=3)
        ),
        spec=SandboxSpec(profile="profile.local"),
        status=SandboxStatus(phase="Ready", host="local", conditions=(condition,)),
    )


def test_table_shows_the_columns_of_the_kind() -> None:
    """A table has one aligned row per object and an age for people."""
    lines = table([sandbox("hello"), sandbox("a-longer-name")]).splitlines()

    assert lines[0].split() == ["NAME", "PROFILE", "PHASE", "READY", "HOST", "AGE"]
    assert lines[1].split() == ["hello", "profile.local", "Ready", "True", "local", "3m"]
    assert lines[0].index("PROFILE") == lines[2].index("profile.local")


def test_mixed_kinds_are_named_by_kind() -> None:
    """With several kinds each has its table, and names can be typed back as they stand."""
    host = Host(metadata=ObjectMeta(name="h1"), spec=HostSpec(address="example.org"))

    shown = table([sandbox("hello"), host])

    assert "sandbox/hello" in shown
    assert "host/h1" in shown


def test_wide_shows_more() -> None:
    """`-o wide` adds the columns of lower priority."""
    assert "MESSAGE" in printer_for("wide")([sandbox("hello")])
    assert "MESSAGE" not in printer_for("table")([sandbox("hello")])


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_are_lists_unless_one_was_named(output: str, load: object) -> None:
    """JSON and YAML show a named object itself and everything else as a List."""
    assert callable(load)

    many = load(printer_for(output)([sandbox("hello")]))
    one = load(printer_for(output, single=True)([sandbox("hello")]))

    assert many["kind"] == "List"
    assert many["items"] == [one]
    assert one["metadata"]["name"] == "hello"


def test_yaml_can_be_parsed_back() -> None:
    """What `-o yaml` prints is the document itself."""
    original = sandbox("hello", message='quotes " and: colons\nand lines')

    shown = yaml.safe_load(printer_for("yaml", single=True)([original]))

    assert Sandbox.parse(shown).status.conditions[0].message == 'quotes " and: colons\nand lines'


def test_custom_columns_print_the_paths_asked_for() -> None:
    """custom-columns prints one column per NAME:path, <none> where nothing is."""
    printer = printer_for("custom-columns=N:.metadata.name,P:.spec.profile,X:.spec.nothing")

    assert [line.split() for line in printer([sandbox("hello")]).splitlines()] == [
        ["N", "P", "X"],
        ["hello", "profile.local", "<none>"],
    ]


def test_name_prints_what_every_verb_takes() -> None:
    """`-o name` prints kind/name."""
    assert printer_for("name")([sandbox("hello")]) == "sandbox/hello\n"


@pytest.mark.parametrize("output", ["tabel", "jsonpath", "custom-columns=", "custom-columns=A", ""])
def test_unknown_format_is_a_usage_error(output: str) -> None:
    """A format that does not exist is refused before anything is read."""
    with pytest.raises(click.UsageError):
        printer_for(output)


def test_hostile_text_cannot_steer_the_terminal() -> None:
    """Escape sequences in a message reach no table."""
    shown = printer_for("wide")([sandbox("hello", message="\x1b[2Jgone\r\nfake line")])

    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2
    assert safe_text("a\tb\x00") == "a b "
