"""
The manifest: what lies on a host beside a sandbox, so that its object can be rebuilt from it.

It is a Sandbox document with identity, labels, spec, extension and leased ports: references to
secrets, never values, and nothing of what other objects say. A host, and on some machines a program
in the sandbox, can write to it, and a spec makes the controller read files of its own machine. So
it is signed, and whether the signature is ours is told with what is read. The id of the
installation is signed with it, so that no label can pass it off as another installation's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from sandboxer.errors import TerminalError
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox

MAX_BYTES: Final = 16 * 2**10
"""Bytes of a manifest; a longer one is not kept. What reads it back on a host reads no more."""

NOT_KEPT: Final = (
    f"Its manifest has more than {MAX_BYTES // 2**10} KiB and is not kept on its host: if the store "
    "is lost, `sandboxer adopt` cannot rebuild it."
)

# Owner references are left out, as the owners are lost too, and annotations, as they are notes of
# other programs of any size.
_METADATA: Final = ("name", "namespace", "uid", "creationTimestamp", "labels")


class Manifest(NamedTuple):
    """What was read back."""

    sandbox: Sandbox
    """Its status has the extension and the leased ports, and nothing else."""
    is_ours: bool
    """Whether it was signed with the key, for the installation that the labels name."""


def manifest_of(sandbox: Sandbox, key: bytes, environment: str) -> str:
    """
    Return the manifest of a sandbox that is placed, one line of ASCII; empty when it is too long.

    Args:
        sandbox: As stored.
        key: Of this installation, to sign it.
        environment: Id of this installation, which is signed with it.
    """
    document = sandbox.to_document()
    metadata, status = document["metadata"], sandbox.status
    kept = {
        "apiVersion": API_VERSION,
        "kind": sandbox.kind,
        "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
        "spec": document["spec"],
        "status": {"extension": status.extension, "ports": dict(status.ports)},
    }
    text = _canonical({"sandbox": kept, "signature": _signature(kept, key, environment)})
    return text if len(text) <= MAX_BYTES else ""


def read_manifest(text: str, key: bytes, environment: str) -> Manifest:
    """
    Read a manifest that was kept on a host, strictly.

    Args:
        text: As it was read back; may be anything.
        key: Of this installation.
        environment: Id of the installation that the labels beside it name.

    Raises:
        TerminalError: There is none, or it is no manifest.
    """
    if not text:
        raise TerminalError("No manifest of it is kept there.", reason="NoManifest")
    try:
        outer = json.loads(text)
        document, signature = outer["sandbox"], outer["signature"]
        sandbox = Sandbox.parse(document)
        ours = _signature(document, key, environment)
        is_ours = hmac.compare_digest(str(signature).encode(), ours.encode())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise _unreadable(f"{field}: {first['msg']}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(type(error).__name__) from error
    return Manifest(sandbox, is_ours)


def _signature(document: Any, key: bytes, environment: str) -> str:
    signed = _canonical({"environment": environment, "sandbox": document})
    return hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()


def _canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _unreadable(why: str) -> TerminalError:
    message = (
        f"Its manifest cannot be read ({why[:200]}): it was damaged, or a newer version wrote it."
    )
    return TerminalError(message, reason="ManifestUnreadable")
