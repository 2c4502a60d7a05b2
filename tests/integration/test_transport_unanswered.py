"""A server that closes a session before it answers, as Dropbear 2022.82 to 2024.85 does at times."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from sandboxer.errors import TransientError
from sandboxer.kinds.host import HostFacts
from sandboxer.transport import Connections, HostSession
from tests.integration.loopback_sshd import LoopbackSSHD


class ClosingSession(asyncssh.SSHServerSession[bytes]):
    """Closes where a command is asked for."""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._channel.close()
        return True


class ClosingServer(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        return ClosingSession()


async def test_session_closed_without_an_answer(tmp_path: Path) -> None:
    """Whether the command runs is not known, and that is what is said; it may be tried again."""
    keys = LoopbackSSHD(tmp_path)
    server = await asyncssh.create_server(
        ClosingServer, "127.0.0.1", keys.port, server_host_keys=[tmp_path / "host_key"]
    )
    connections = Connections()
    session = HostSession(connections, host=keys.host(), facts=HostFacts(), engine=None)

    with pytest.raises(TransientError, match="The command may run") as raised:
        await session.run(["true"])

    assert "Dropbear" in raised.value.remedy
    await connections.close()
    server.close()
