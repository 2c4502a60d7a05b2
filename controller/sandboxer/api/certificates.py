"""
The certificate the API shows, and the authority that signed it.

Both are made at the first start and lie in one directory: `ca.crt`, `ca.key`, `server.crt`,
`server.key`, each 0600. What a person put there is used and never overwritten: a server certificate
that our authority did not sign, or an authority whose key is kept elsewhere.

The server's certificate is signed again, for the same key, when it is about to expire or lacks a
name it is asked for. So one file changes at a time, and a start that is killed half-way is
finished by the next one.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandboxer.api.private_files import alone_in, make_private_directory, write_private
from sandboxer.errors import InvalidSpecError, TerminalError

CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=365)

# A controller that runs for months shows the certificate it started with.
RENEW_BEFORE = timedelta(days=60)

# Clocks of clients may be behind ours.
_BACKDATED = timedelta(hours=1)

# RFC 1123 host name; a leading `*.` is allowed as certificates allow it.
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a server needs to speak TLS, and its clients to believe it."""

    ca_pem: bytes
    """Certificate of the authority, for clients."""
    server_path: Path
    key_path: Path
    expires_at: datetime
    """When the server's certificate stops being valid."""

    def context(self) -> ssl.SSLContext:
        """
        Return a server's TLS context: TLS 1.2 or newer, HTTP/1.1.

        Raises:
            TerminalError: Certificate and key do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.server_path, self.key_path)
        except ssl.SSLError as error:
            raise _unusable(self.server_path, f"it does not fit {self.key_path.name}") from error
        return context


def ensure_certificates(directory: Path, names: Sequence[str], *, now: datetime) -> Certificates:
    """
    Return the certificates of a directory, made or renewed where necessary.

    Args:
        directory: Made with mode 0700 when it is missing.
        names: Host names and addresses clients will use.
        now: Wall-clock time.

    Raises:
        InvalidSpecError: A name is neither a host name nor an address.
        TerminalError: What lies there cannot be used; the remedy says what to do.
    """
    make_private_directory(directory)
    with alone_in(directory):
        return _Directory(directory, now).certificates(tuple(dict.fromkeys(names)))


class _Directory:
    """The files of one installation while they are looked at."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._now = now

    def certificates(self, names: Sequence[str]) -> Certificates:
        wanted = [general_name(name) for name in names]
        authority = self._authority()
        server = self._certificate("server.crt")
        if server is None or self._must_renew(server, authority, wanted):
            server = self._sign_server(authority, wanted)
        return Certificates(
            ca_pem=_pem(authority),
            server_path=self._path / "server.crt",
            key_path=self._path / "server.key",
            expires_at=server.not_valid_after_utc,
        )

    def _authority(self) -> x509.Certificate:
        authority = self._certificate("ca.crt")
        if authority is None and (self._path / "server.crt").exists():
            raise TerminalError(
                f"{self._path} has a server.crt and no ca.crt.",
                reason="CertificateUnusable",
                remedy="Put the certificate of the authority that signed it there.",
            )
        if authority is None:
            authority = _signed_authority(self._key("ca.key", make=True), self._now)
            write_private(self._path / "ca.crt", _pem(authority))
        if authority.not_valid_after_utc <= self._now:
            raise TerminalError(
                f"the authority in {self._path} has expired.",
                reason="CertificateExpired",
                remedy="Move the directory away, start again and hand out the new kubeconfig.",
            )
        return authority

    def _must_renew(
        self, server: x509.Certificate, authority: x509.Certificate, wanted: list[x509.GeneralName]
    ) -> bool:
        # NOTE: a certificate our authority did not sign is somebody's own and is left alone.
        if not _issued(server, authority) or not (self._path / "ca.key").exists():
            return False
        named = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            server.not_valid_after_utc - self._now < RENEW_BEFORE
            or not set(wanted) <= set(named)
            or not (self._path / "server.key").exists()
        )

    def _sign_server(
        self, authority: x509.Certificate, wanted: list[x509.GeneralName]
    ) -> x509.Certificate:
        signer = self._key("ca.key", make=False)
        key = self._key("server.key", make=True)
        server = _signed_server(key, authority, signer, wanted, self._now)
        write_private(self._path / "server.crt", _pem(server))
        return server

    def _certificate(self, name: str) -> x509.Certificate | None:
        path = self._path / name
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error.strerror or "it cannot be read") from error
        except ValueError as error:
            raise _unusable(path, "it is not a PEM certificate") from error

    def _key(self, name: str, *, make: bool) -> ec.EllipticCurvePrivateKey:
        path = self._path / name
        if make and not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(path, _key_pem(key))
            return key
        try:
            loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise _unusable(path, error.strerror or "it cannot be read") from error
        except (ValueError, TypeError) as error:
            raise _unusable(path, "it is not an unencrypted PEM key") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise _unusable(path, "it is not an elliptic curve key")
        return loaded


def general_name(name: str) -> x509.GeneralName:
    """
    Return a host name or an address as certificates write it.

    Raises:
        InvalidSpecError: It is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        if _HOST_NAME.fullmatch(name):
            return x509.DNSName(name)
    raise InvalidSpecError(f"{name[:64]!r} is neither a host name nor an IP address.")


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _signed_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The serial number in the name tells the authorities of several installations apart.
    serial = x509.random_serial_number()
    name = _subject(f"sandboxer CA {serial:x}"[:24])
    usage = _key_usage(sign_certificates=True)
    return (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _signed_server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    lifetime = min(SERVER_LIFETIME, authority.not_valid_after_utc - now)
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _builder(_subject("sandboxer"), authority.subject, key.public_key(), now, lifetime)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(server_auth, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issued_by, critical=False)
        .sign(signer, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _unusable(path: Path, why: str) -> TerminalError:
    return TerminalError(
        f"cannot use {path}: {why}.",
        reason="CertificateUnusable",
        remedy=f"Repair it, or move {path.parent} away to have everything in it made anew.",
    )
