"""
Which sinks there are: `sinks.yaml` in the data directory, and the State Hub of the environment.

Neither holds a key: the file names the files that do. But a URL is a secret with many receivers,
so what is wrong is said without what was written.

Nobody is told only where there is no file, or one that says so (`sinks: []`): what waits for a
sink is given up when it goes, and a file that was cut short is no wish.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_core import to_json

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.lifecycle import WORDS
from sandboxer.kinds.meta import Model, Name, Namespace
from sandboxer.settings import Settings
from sandboxer.units import Duration
from sandboxer.values import FieldPath, parse_text

M = TypeVar("M", bound=Model)

STATE_HUB: Final = "state-hub"
"""Name of the sink that `SANDBOXER_STATE_HUB_URL` makes."""

# Bytes of the file; thirty-two sinks with long lists are far below.
MAX_FILE_BYTES: Final = 64 * 2**10

MAX_SINKS: Final = 32
"""Each event is written once for each sink that wants it."""


def _without_nul(path: str) -> str:
    if "\0" in path:
        msg = "it may not hold a NUL"
        raise ValueError(msg)
    return path


FileName = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_without_nul)]


class SinkSpec(Model):
    """One receiver."""

    name: Name
    """How commands and the log call it."""
    url: Annotated[str, Field(max_length=2048)]
    """Where events are posted to; `https`, or `http` where the network is trusted."""
    secret_file: FileName | None = None
    """File with the key the events are signed with; nobody else may read it."""
    ca_file: FileName | None = None
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

    sinks: Annotated[tuple[SinkSpec, ...], Field(max_length=MAX_SINKS)]


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
    return _parsed(SinksFile, _mapping(content, path), str(path)).sinks


def _mapping(content: bytes, path: Path) -> dict[str, Any]:
    try:
        trees, findings = parse_text(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidSpecError(f"{path} is not UTF-8: {error.reason}.") from None
    for found in findings:
        what = f"{_dotted(found.path)} " if found.path else ""
        raise InvalidSpecError(f"{path}, line {found.line}: {what}{found.message}.")
    if len(trees) != 1 or not isinstance(trees[0].value, dict):
        raise InvalidSpecError(
            f"{path} is not one mapping with `sinks`.",
            field="sinks",
            remedy="Remove the file, or write `sinks: []`, if nobody is to be told.",
        )
    return trees[0].value


def _parsed(model: type[M], document: Any, origin: str) -> M:
    try:
        return model.model_validate_json(to_json(document), by_alias=True, by_name=False)
    except ValueError as error:
        field, message = _first(error)
        # NOTE: `from None`, for pydantic's own words hold the value.
        raise InvalidSpecError(f"{origin}: {field}{message}.", field=field.strip(": ")) from None


def _first(error: ValueError) -> tuple[str, str]:
    """Return field and message of the first mistake, without the value, which may be secret."""
    if not isinstance(error, ValidationError):
        return "", str(error)
    found = error.errors(include_input=False, include_url=False)[0]
    where = _dotted(found["loc"])
    return f"{where}: " if where else "", found["msg"].removeprefix("Value error, ")


def _dotted(path: FieldPath) -> str:
    """Return a path; where a colon was forgotten a name is more than a name, and not shown."""
    return ".".join(str(each) if str(each).isalnum() else "…" for each in path)
