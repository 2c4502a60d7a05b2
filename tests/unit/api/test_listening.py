"""Addresses to listen on."""

from __future__ import annotations

import socket

import pytest

from sandboxer.api.listening import Address, listen_tcp, parse_address
from sandboxer.errors import ConflictError, InvalidSpecError, TerminalError


@pytest.mark.parametrize(
    ("text", "expected", "url", "loopback"),
    [
        ("127.0.0.1:7443", Address("127.0.0.1", 7443), "https://127.0.0.1:7443", True),
        ("localhost:1", Address("localhost", 1), "https://localhost:1", True),
        ("[::1]:7443", Address("::1", 7443), "https://[::1]:7443", True),
        (":7443", Address("", 7443), "https://127.0.0.1:7443", False),
        ("0.0.0.0:7443", Address("0.0.0.0", 7443), "https://127.0.0.1:7443", False),
        ("box.example:0", Address("box.example", 0), "https://box.example:0", False),
    ],
)
def test_addresses(text: str, expected: Address, url: str, *, loopback: bool) -> None:
    """An address gives the URL of a client on this machine and says who else can connect."""
    address = parse_address(text)

    assert address == expected
    assert (address.url, address.is_loopback) == (url, loopback)


@pytest.mark.parametrize("text", ["", "7443", "h:", "h:x", "h:70000", "::1:7443", "h:-1", "h:٣"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    """A slip is answered with how to write it."""
    with pytest.raises(InvalidSpecError) as caught:
        parse_address(text)

    assert "127.0.0.1:7443" in caught.value.remedy


def test_a_taken_port_says_what_to_do() -> None:
    """The message names the port, the remedy how to find who has it and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(ConflictError) as caught:
            listen_tcp(Address("127.0.0.1", port))

    assert f"127.0.0.1:{port}" in caught.value.message
    assert "--listen" in caught.value.remedy
    assert f":{port}" in caught.value.remedy


def test_a_foreign_address_cannot_be_listened_on() -> None:
    """An address this machine does not have is refused with the reason."""
    with pytest.raises(TerminalError, match=r"192\.0\.2\.1"):
        listen_tcp(Address("192.0.2.1", 0))


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_silent_peer_is_noticed(host: str) -> None:
    """Accepted connections have the kernel's keepalive, because HTTP/1.1 has no ping."""
    with listen_tcp(Address(host, 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_small_answers_are_sent_at_once(host: str) -> None:
    """A connection does not hold back the end of an answer until its head is acknowledged."""
    with listen_tcp(Address(host, 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
