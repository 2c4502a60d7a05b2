"""Signatures are those of Standard Webhooks, and keys are read with care."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from sandboxer.errors import InvalidSpecError
from sandboxer.sinks.signing import read_key, signature_headers

KEY = b"0123456789abcdef01234567"


def key_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def webhook() -> Webhook:
    return Webhook("whsec_" + base64.b64encode(KEY).decode())


def test_others_verify_it(webhook: Webhook) -> None:
    """The library of Standard Webhooks takes what we sign."""
    body = b'{"type": "dev.sandboxer.sandbox.ready"}'

    headers = {"webhook-id": "1"} | signature_headers(KEY, "1", int(time.time()), body)

    assert webhook.verify(body, headers) == {"type": "dev.sandboxer.sandbox.ready"}


@pytest.mark.parametrize(
    ("id_", "at_s", "body"),
    [
        pytest.param("2", 0, b"{}", id="id"),
        pytest.param("1", 7, b"{}", id="time"),
        pytest.param("1", 0, b"[]", id="body"),
    ],
)
def test_changed_is_refused(webhook: Webhook, id_: str, at_s: int, body: bytes) -> None:
    """Neither id nor time nor body can be changed on the way."""
    now = int(time.time())
    headers = signature_headers(KEY, "1", now, b"{}")
    headers |= {"webhook-id": id_, "webhook-timestamp": str(now + at_s)}

    with pytest.raises(WebhookVerificationError):
        webhook.verify(body, headers)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        pytest.param(KEY + b"\n", KEY, id="text"),
        pytest.param(b"whsec_" + base64.b64encode(KEY) + b"\n", KEY, id="base64"),
    ],
)
def test_forms_of_a_key(tmp_path: Path, content: bytes, key: bytes) -> None:
    """A key file holds text, or base64 behind `whsec_`; white space around it does not count."""
    assert read_key(key_file(tmp_path, content)) == key


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        pytest.param(KEY, 0o604, "every user", id="readable"),
        pytest.param(b"hunter2", 0o600, "bytes", id="short"),
        pytest.param(b"x" * 5000, 0o600, "bytes", id="long"),
        pytest.param(b"whsec_%%%%%%%%%%%%%%%%%%%%%%%%", 0o600, "base64", id="not-base64"),
    ],
)
def test_unusable_keys(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    """A key that cannot be used is refused, and never shown."""
    with pytest.raises(InvalidSpecError) as refused:
        read_key(key_file(tmp_path, content, mode))

    assert says in str(refused.value)
    assert content.decode() not in str(refused.value)


def test_missing_key(tmp_path: Path) -> None:
    """A key that is not there is an error with its path."""
    with pytest.raises(InvalidSpecError, match="nowhere"):
        read_key(tmp_path / "nowhere")
