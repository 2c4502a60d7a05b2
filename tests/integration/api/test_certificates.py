"""The certificates of the API, used in real handshakes."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sandboxer.api.certificates import Certificates, ensure_certificates
from sandboxer.errors import InvalidSpecError, TerminalError

NOW = datetime.now(UTC)
NAMES = ("localhost", "127.0.0.1", "::1")


def ensure(directory: Path, names: Sequence[str] = NAMES, *, now: datetime = NOW) -> Certificates:
    return ensure_certificates(directory, names, now=now)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def shake_hands(certificates: Certificates, name: str, *, believes: bytes = b"") -> str:
    """Connect as a strict client that believes one authority; returns the version of TLS."""
    ours, theirs = socket.socketpair()
    done: list[Exception] = []

    def serve() -> None:
        try:
            certificates.context().wrap_socket(ours, server_side=True).close()
        except OSError as error:
            done.append(error)

    client = ssl.create_default_context(cadata=(believes or certificates.ca_pem).decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with client.wrap_socket(theirs, server_hostname=name) as connected:
            return connected.version() or ""
    finally:
        theirs.close()
        serving.join(10)


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_client_believes_it_for_every_name(tmp_path: Path, name: str) -> None:
    """Who believes the authority is content with the server's certificate under each name."""
    assert shake_hands(ensure(tmp_path / "pki"), name) == "TLSv1.3"


def test_another_name_or_another_authority_is_not_believed(tmp_path: Path) -> None:
    """A name that is not in it, or an authority that did not sign it, ends the handshake."""
    certificates, others = ensure(tmp_path / "pki"), ensure(tmp_path / "others")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certificates, "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certificates, "localhost", believes=others.ca_pem)


def test_files_are_private_and_keys_are_on_a_curve(tmp_path: Path) -> None:
    """Nobody else reads the directory or a file in it."""
    ensure(tmp_path / "pki")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pki").iterdir()}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    assert modes == dict.fromkeys(("ca.crt", "ca.key", "server.crt", "server.key"), 0o600)


def test_the_next_start_changes_nothing(tmp_path: Path) -> None:
    """What is there and good stays byte for byte, also when fewer names are asked for."""
    ensure(tmp_path)
    before = contents(tmp_path)

    ensure(tmp_path, ["localhost"])

    assert contents(tmp_path) == before


def test_a_new_name_is_signed_by_the_same_authority(tmp_path: Path) -> None:
    """Clients go on believing: only the server's certificate is a new one."""
    before = ensure(tmp_path).ca_pem
    files = contents(tmp_path)

    certificates = ensure(tmp_path, [*NAMES, "box.example"])

    assert shake_hands(certificates, "box.example", believes=before) == "TLSv1.3"
    assert shake_hands(certificates, "localhost", believes=before) == "TLSv1.3"
    changed = {name for name, content in contents(tmp_path).items() if content != files[name]}
    assert changed == {"server.crt"}


def test_it_is_renewed_before_it_expires(tmp_path: Path) -> None:
    """A start in the last weeks of the year signs the same key again, for another year."""
    first = ensure(tmp_path)
    assert first.expires_at - NOW > timedelta(days=364)

    kept = ensure(tmp_path, now=NOW + timedelta(days=300))
    renewed = ensure(tmp_path, now=NOW + timedelta(days=310))

    assert kept.expires_at == first.expires_at
    assert renewed.expires_at - NOW > timedelta(days=600)
    assert renewed.ca_pem == first.ca_pem


def test_an_expired_authority_says_what_to_do(tmp_path: Path) -> None:
    """Nothing can be signed after ten years; the directory is named."""
    ensure(tmp_path)

    with pytest.raises(TerminalError, match="has expired") as caught:
        ensure(tmp_path, now=NOW + timedelta(days=3700))
    assert caught.value.remedy


@pytest.mark.parametrize("lost", ["server.crt", "server.key", "ca.crt server.crt"])
def test_a_start_that_was_killed_half_way_is_finished(tmp_path: Path, lost: str) -> None:
    """Whatever prefix of the files was written, the next start makes the rest."""
    ensure(tmp_path)
    for name in lost.split():
        (tmp_path / name).unlink()

    assert shake_hands(ensure(tmp_path), "localhost") == "TLSv1.3"


def test_a_certificate_of_somebody_else_is_used_and_kept(tmp_path: Path) -> None:
    """A server certificate signed elsewhere stays, whatever names are asked for."""
    theirs = tmp_path / "theirs"
    ensure(theirs, ["sandboxes.example"])
    (theirs / "ca.key").unlink()
    before = contents(theirs)

    certificates = ensure(theirs, NAMES, now=NOW + timedelta(days=360))

    assert contents(theirs) == before
    assert shake_hands(certificates, "sandboxes.example") == "TLSv1.3"


@pytest.mark.parametrize(
    ("broken", "content", "said"),
    [
        ("ca.crt", b"x", "not a PEM certificate"),
        ("server.crt", b"x", "not a PEM certificate"),
        ("server.key", None, "does not fit"),
        ("ca.crt", b"", "not a PEM certificate"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, broken: str, content: bytes | None, said: str
) -> None:
    """A damaged file is an error that names it, and nothing is made over it."""
    ensure(tmp_path / "pki")
    ensure(tmp_path / "others")
    path = tmp_path / "pki" / broken
    path.write_bytes((tmp_path / "others" / broken).read_bytes() if content is None else content)
    before = contents(tmp_path / "pki")

    with pytest.raises(TerminalError, match=said):
        ensure(tmp_path / "pki").context()

    assert contents(tmp_path / "pki") == before


def test_an_authority_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    """Beside a foreign server certificate no authority is invented, which nobody could believe."""
    ensure(tmp_path)
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.key").unlink()

    with pytest.raises(TerminalError, match=r"no ca\.crt"):
        ensure(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "-x", "https://a", "a" * 300, "ö.example"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """A slip in --tls-san is an error before anything is signed."""
    with pytest.raises(InvalidSpecError, match="neither a host name nor"):
        ensure(tmp_path, [name])

    assert not (tmp_path / "server.crt").exists()


def test_the_authority_may_sign_servers_and_nothing_below(tmp_path: Path) -> None:
    """Its certificate says so, for every client that checks."""
    authority = x509.load_pem_x509_certificate(ensure(tmp_path).ca_pem)

    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
