"""Options that several verbs share, each in one form."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sandboxer.units import Duration

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_NAMESPACE = "default"


class DurationType(click.ParamType[Duration]):
    """A duration such as `90s`, `2h` or `1h30m`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Duration:
        """Read the text, or refuse it with an example."""
        try:
            return Duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PairType(click.ParamType[tuple[str, str]]):
    """`name=value`; the value may hold further equal signs and may be empty."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first equal sign."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not name=value", param, ctx)
        return name, text


DURATION = DurationType()
PAIR = PairType()


def current_namespace(given: str | None) -> str:
    """Return the namespace of `-n`, else of SANDBOXER_NAMESPACE, else `default`."""
    return given or os.environ.get("SANDBOXER_NAMESPACE") or DEFAULT_NAMESPACE


def namespace_option(command: Command) -> Command:
    """Add `-n`."""
    return click.option(
        "-n",
        "--namespace",
        metavar="NAMESPACE",
        help="Namespace; SANDBOXER_NAMESPACE or `default` when left out.",
    )(command)


def timeout_option(default: str) -> Callable[[Command], Command]:
    """Add `--timeout` with its default."""
    return click.option(
        "--timeout",
        type=DURATION,
        default=default,
        show_default=True,
        help="Longest wait; then exit code 6 and everything stays as it is.",
    )


def output_option(*, default: str = "table") -> Callable[[Command], Command]:
    """Add `-o`."""
    return click.option(
        "-o",
        "--output",
        default=default,
        metavar="FORMAT",
        help="table, wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=NAME:.path,…",
    )


def files_option(command: Command) -> Command:
    """Add `-f` and `-R`."""
    command = click.option(
        "-R", "--recursive", is_flag=True, help="Read directories below directories too."
    )(command)
    return click.option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="PATH",
        help="File, directory, or - for standard input; may be repeated.",
    )(command)
