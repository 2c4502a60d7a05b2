"""What commands on hosts ask of the API, against the real application on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from sandboxer.api.app import create_app
from sandboxer.api.private import served_privately
from sandboxer.cli.cordon import set_host
from sandboxer.cli.drain import refuse_answer
from sandboxer.client import Client, Server
from sandboxer.errors import SandboxerError, TerminalError, UnreachableError
from sandboxer.kinds.host import Host
from sandboxer.store import Store
from sandboxer.testing.builders import host

Served = Callable[..., AbstractAsyncContextManager[Client]]


class Entrance:
    """The way to machines, none of which can be used."""

    def __init__(self, error: SandboxerError) -> None:
        self._error = error

    async def look(self, host: Host) -> None:
        """Fail as a probe does."""
        raise self._error


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Served:
    """Return what serves Host `h1` to a client, with a way to its machine or without."""

    @asynccontextmanager
    async def opened(entrance: Entrance | None = None) -> AsyncIterator[Client]:
        await store.create(host())
        async with served_privately(create_app(store, entrance=entrance), tmp_path) as path:
            client = Client(Server(socket=path))
            try:
                yield client
            finally:
                await client.close()

    return opened


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("Host h1 does not answer."),
        UnreachableError("It hangs.", reason="CommandTimeout"),
        TerminalError("It shows another key.", reason="HostKeyMismatch"),
    ],
)
async def test_silent_host_can_be_given_up(
    served: Served, error: SandboxerError, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that does not answer, hangs, or is another one now is silent, and how is said."""
    async with served(Entrance(error)) as client:
        await refuse_answer(client, host())

    assert error.message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entrance", "reason"),
    [
        pytest.param(None, "ServerUnavailable", id="no-way-to-hosts"),
        pytest.param(Entrance(TerminalError("No.", reason="LoginRefused")), "LoginRefused", id="login"),
        pytest.param(Entrance(SandboxerError("Oh.")), "Error", id="trouble"),
    ],
)  # fmt: skip
async def test_what_is_not_known_to_be_silent_is_not_given_up(
    served: Served, entrance: Entrance | None, reason: str
) -> None:
    """Trouble of the API, and a host that refuses us, say nothing of what runs there."""
    async with served(entrance) as client:
        with pytest.raises(SandboxerError) as refused:
            await refuse_answer(client, host())

    assert refused.value.reason == reason


async def test_cordon_leaves_the_drain_of_somebody_else(served: Served, store: Store) -> None:
    """A cordon that meets a drain asked for since it read the host cordons, and no more."""
    async with served() as client:
        read = await client.get(Host, "h1")
        assert read is not None
        await set_host(client, read, unschedulable=False, drain="GiveUp")

        changed = await set_host(client, read, unschedulable=True)

    found = store.get(Host, "h1")
    assert changed
    assert found is not None
    assert (found.spec.unschedulable, found.spec.drain) == (True, "GiveUp")
