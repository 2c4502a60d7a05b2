"""
Bearer tokens: who may connect over the network, kept as hashes in one file.

The file holds no token, only the SHA-256 of each with a name and a role. A token is 256 random
bits, so a plain hash is enough: there is nothing to guess, unlike with a password.

The file is read again whenever it was replaced, so a change counts at once and without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sandboxer.api.private_files import alone_in, make_private_directory, write_private
from sandboxer.clock import Clock
from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError, TerminalError
from sandboxer.kinds.meta import Model, Name, Timestamp

logger = logging.getLogger(__name__)

Role = Literal["admin", "viewer"]
"""`admin` may do everything, `viewer` may look."""

# What a token begins with, so that a scanner for leaked secrets recognises one.
PREFIX = "sbx_"

_TOKEN_BYTES = 32

# More than anybody will name, and little enough to be compared one by one for each request.
MAX_TOKENS = 1000


class Token(Model):
    """One token, without the token itself."""

    name: Name
    """Name of the user who shows it."""
    role: Role
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: Timestamp
    expires: Timestamp | None = None
    """When it stops working; None is never."""


class _File(Model):
    tokens: tuple[Token, ...] = ()


def new_token() -> str:
    """Return a new token."""
    return PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_of(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


class TokenFile:
    """
    The tokens of one data directory.

    Args:
        path: Of the file; it need not exist yet.
        clock: Says what has expired.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether tokens were ever made here."""
        return self._path.exists()

    def list(self) -> Sequence[Token]:
        """
        Return all tokens by name, expired ones included.

        Raises:
            TerminalError: The file cannot be read.
        """
        return sorted(self._read(), key=lambda token: token.name)

    def create(self, name: str, role: Role, *, ttl_s: float | None = None) -> str:
        """
        Make a token and return it; nobody can read it again.

        Args:
            name: Of the user.
            role: What they may do.
            ttl_s: Seconds until it stops working; None is never.

        Raises:
            ConflictError: The name has a token.
            InvalidSpecError: The name cannot be a user's.
        """
        token = new_token()
        self.add(name, role, token, ttl_s=ttl_s)
        return token

    def add(self, name: str, role: Role, token: str, *, ttl_s: float | None = None) -> None:
        """Let in who shows *token*, which `new_token` made; raises as `create`."""
        now = self._clock.now()
        try:
            made = Token(
                name=name,
                role=role,
                sha256=hash_of(token),
                created=now,
                expires=now + timedelta(seconds=ttl_s) if ttl_s is not None else None,
            )
        except ValidationError as error:
            raise InvalidSpecError(
                f"{name!r} cannot be the name of a user.",
                remedy="Use lower-case letters, digits, '-' and '.', at most 63.",
            ) from error
        self._change(lambda tokens: _with(tokens, made))

    def delete(self, name: str) -> None:
        """
        Take a token away.

        Raises:
            NotFoundError: There is none of that name.
        """
        self._change(lambda tokens: _without(tokens, name))

    def find(self, token: str) -> Token | None:
        """Return the token that was shown, also when it has expired; takes equally long for each."""
        wanted = hash_of(token)
        found = None
        for each in self._current():
            if hmac.compare_digest(each.sha256, wanted):
                found = each
        return found

    def has_expired(self, token: Token) -> bool:
        """Tell whether a token has stopped working."""
        return token.expires is not None and token.expires <= self._clock.now()

    def _current(self) -> tuple[Token, ...]:
        """Return the tokens as the file has them now; none while it cannot be read."""
        try:
            found = self._path.stat()
            seen: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            seen = ()
        if seen != self._seen:
            self._seen = seen
            try:
                self._tokens = self._read()
            except TerminalError as error:
                self._tokens = ()
                if isinstance(error.__cause__, OSError):
                    # It is not the file's fault, as with too many open files: the next one tries.
                    self._seen = None
                logger.warning("Nobody is let in by token", extra={"error": str(error)})
        return self._tokens

    def _read(self) -> tuple[Token, ...]:
        try:
            return _File.model_validate_json(self._path.read_bytes()).tokens
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TerminalError(f"cannot read {self._path}: {error.strerror}.") from error
        except ValidationError as error:
            raise TerminalError(
                f"{self._path} is not a file of tokens: {error.errors()[0]['msg']}.",
                reason="TokensUnreadable",
                remedy="Move it away and make new tokens with sandboxer token create.",
            ) from error

    def _change(self, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
        make_private_directory(self._path.parent)
        with alone_in(self._path.parent):
            document = _File(tokens=change(self._read())).to_document()
            write_private(self._path, json.dumps(document, indent=1).encode() + b"\n")


def _with(tokens: tuple[Token, ...], made: Token) -> tuple[Token, ...]:
    if any(token.name == made.name for token in tokens):
        raise ConflictError(
            f"{made.name} has a token already.",
            reason="AlreadyExists",
            remedy=f"Take it away first: sandboxer token delete {made.name}",
        )
    if len(tokens) >= MAX_TOKENS:
        raise ConflictError(f"there are {MAX_TOKENS} tokens, and more are not kept.")
    return (*tokens, made)


def _without(tokens: tuple[Token, ...], name: str) -> tuple[Token, ...]:
    rest = tuple(token for token in tokens if token.name != name)
    if len(rest) == len(tokens):
        raise NotFoundError(f"there is no token of {name!r}.", remedy="sandboxer token list")
    return rest
