"""
Which sinks there are: `sinks.yaml` in the data directory, and the State Hub of the environment.

Nothing secret stands in either: the file names the files that hold the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_core import to_json

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.lifecycle import WORDS
from sandboxer.kinds.meta import Model, Name, Namespace
from sandboxer.settings import Settings
from sandboxer.units import Duration

M = TypeVar("M", bound=Model)

STATE_HUB: Final = "state-hub"
"""Name of the sink that `SANDBOXER_STATE_HUB_URL` makes."""

# Bytes of the file; thirty-two sinks with long lists are far below.
MAX_FILE_BYTES: Final = 64 * 2**10

MAX_SINKS: Final = 32
"""Each event is written once for each sink that wants it."""


class SinkSpec(Model):
    """One receiver."""

    name: Name
    """How commands and the log call it."""
    url: Annotated[str, Field(max_length=2048)]
    """Where events are posted to; `https`, or `http` where the network is trusted."""
    secret_file: str | None = None
    """File with the key the events are signed with; nobody else may read it."""
    ca_file: str | None = None
    """PEM file of the authority that signed the receiver's certificate; the system's when absent."""
    types: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Types it wants, by their last word; empty is all."""
    namespaces: Annotated[tuple[Namespace, ...], Field(max_length=256)] = ()
    """Namespaces it wants; empty is all."""
    give_up_after: Duration = Duration("3d")
    """Age of an event after which a failed attempt is the last."""

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        if not url.isascii() or not url.isprintable() or " " in url:
            msg = "it may hold printable ASCII only; quote the rest"
            raise ValueError(msg)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = "it must be http://HOST… or https://HOST…"
            raise ValueError(msg)
        if parts.username is not None or parts.fragment:
            msg = "it must have neither a user nor a fragment"
            raise ValueError(msg)
        # NOTE: raises ValueError when the port is no number.
        _ = parts.port
        return url

    @field_validator("types")
    @classmethod
    def _known(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(types) - WORDS):
            msg = f"there is no type {unknown[0]!r}; there are {', '.join(sorted(WORDS))}"
            raise ValueError(msg)
        return types

    @property
    def shown_url(self) -> str:
        """The URL without its path and query, which are secret with many receivers."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path.strip("/") else "")

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read the events."""
        return self.url.startswith("https:")


class SinksFile(Model):
    """The file."""

    sinks: Annotated[tuple[SinkSpec, ...], Field(max_length=MAX_SINKS)] = ()


def configured_sinks(settings: Settings) -> tuple[SinkSpec, ...]:
    """
    Return all sinks of this installation.

    Raises:
        InvalidSpecError: The file or the environment names one that cannot be used.
    """
    sinks = _from_file(settings.sinks_path)
    if settings.state_hub_url:
        sinks = (*sinks, _state_hub(settings))
    names = [sink.name for sink in sinks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidSpecError(
            f"There are two sinks called {twice!r}.",
            field="sinks",
            remedy=f"Rename one of {settings.sinks_path}; {STATE_HUB} is that of "
            "SANDBOXER_STATE_HUB_URL.",
        )
    return sinks


def _state_hub(settings: Settings) -> SinkSpec:
    secret = settings.state_hub_secret_file
    document = {"name": STATE_HUB, "url": settings.state_hub_url}
    document |= {"secretFile": str(secret)} if secret else {}
    return _parsed(SinkSpec, document, "SANDBOXER_STATE_HUB_URL")


def _from_file(path: Path) -> tuple[SinkSpec, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidSpecError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_FILE_BYTES:
        raise InvalidSpecError(f"{path} has more than {MAX_FILE_BYTES} bytes.")
    try:
        text = content.decode()
        # NOTE: an alias is a few bytes that can stand for gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise InvalidSpecError(f"{path} has a YAML alias; write it out.")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSpecError(f"{path} is not YAML: {error}") from error
    return _parsed(SinksFile, document or {}, str(path)).sinks


def _parsed(model: type[M], document: Any, origin: str) -> M:
    try:
        return model.model_validate_json(to_json(document), by_alias=True, by_name=False)
    except (ValidationError, ValueError) as error:
        field, message = _first(error)
        raise InvalidSpecError(f"{origin}: {field}{message}.", field=field.strip(": ")) from error


def _first(error: ValueError) -> tuple[str, str]:
    """Return field and message of the first mistake, without the value, which may be secret."""
    if not isinstance(error, ValidationError):
        return "", str(error)
    found = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: " if where else "", found["msg"].removeprefix("Value error, ")
