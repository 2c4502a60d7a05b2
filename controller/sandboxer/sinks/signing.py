"""
Signatures, so that a receiver knows who sent an event and that nobody changed or repeated it.

The form is Standard Webhooks', for which receivers find a library in most languages: HMAC-SHA256
over `ID.TIMESTAMP.BODY`, in base64 behind `v1,`. The timestamp is that of the attempt.

Source:
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from pathlib import Path
from typing import Final

from sandboxer.errors import InvalidSpecError

# Bytes of a key; the specification asks for 24 to 64.
MAX_KEY_BYTES: Final = 1024
MIN_KEY_BYTES: Final = 16

_PREFIX: Final = "whsec_"


def read_key(path: Path) -> bytes:
    """
    Return the key in a file: base64 behind `whsec_`, or the text as it is.

    Raises:
        InvalidSpecError: It cannot be used; the message says nothing of its content.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise InvalidSpecError(
                    f"{path} can be read by every user of this machine.",
                    remedy=f"chmod 600 {path}",
                )
            text = file.read(MAX_KEY_BYTES + 1).strip()
    except OSError as error:
        raise InvalidSpecError(f"{path} cannot be read: {error.strerror}.") from error
    key = _decoded(text, path)
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise InvalidSpecError(
            f"{path} must hold a key of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes.",
            remedy=f"(umask 077; printf whsec_ > {path}; openssl rand -base64 32 >> {path})",
        )
    return key


def signature_headers(key: bytes, event_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """
    Return the headers that prove who sent *body*.

    Args:
        key: Shared with the receiver.
        event_id: The same at every attempt.
        at_s: Time of this attempt, seconds since 1970.
        body: As it is sent.
    """
    signed = f"{event_id}.{at_s}.".encode() + body
    digest = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {"webhook-timestamp": str(at_s), "webhook-signature": f"v1,{digest}"}


def _decoded(text: bytes, path: Path) -> bytes:
    if not text.startswith(_PREFIX.encode()):
        return text
    try:
        return base64.b64decode(text[len(_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise InvalidSpecError(f"{path} does not hold base64 behind {_PREFIX}.") from error
