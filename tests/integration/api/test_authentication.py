"""Who is let in, and how far."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from sandboxer.api.authentication import Authentication
from sandboxer.api.users import user_of
from sandboxer.testing.clock import ManualClock
from tests.integration.api.serving_lab import SANDBOXES, Lab, served, status_of

Message = dict[str, Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def lab(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Lab]:
    async with served(tmp_path / "data", clock) as opened:
        yield opened


async def test_a_token_opens_the_network_and_the_socket_needs_none(lab: Lab) -> None:
    """The same objects are served to the admin over TLS and to the owner of the directory."""
    async with lab.client(lab.admin.token) as remote, lab.local_client() as local:
        assert (await remote.get(SANDBOXES)).status_code == 200
        assert (await local.get(SANDBOXES)).status_code == 200
    assert stat.S_IMODE(lab.settings.socket_path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "shown", [b"", b"Bearer", b"Bearer wrong", b"Bearer sbx_", b"Bearer \xff", b"Basic YTpi"]
)
async def test_without_a_right_token_nothing_is_told(lab: Lab, shown: bytes) -> None:
    """Every path but the probes is a 401 that names the scheme, also one that does not exist."""
    async with lab.client() as client:
        answers = [
            await client.get(path, headers={b"Authorization": shown})
            for path in (SANDBOXES, "/apis", "/openapi/v3", "/nothing", "/readyz/")
        ]

    assert {status_of(answer) for answer in answers} == {(401, "Unauthorized", "Unauthorized")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {
        'Bearer realm="sandboxer"'
    }


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
async def test_probes_need_no_token(lab: Lab, path: str) -> None:
    """Load balancers and `kubectl version` come without one, and may only look."""
    async with lab.client() as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.post(path)).status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_written_as_one_likes(lab: Lab, scheme: str) -> None:
    """Case and a second blank do not matter, as RFC 9110 says of schemes."""
    async with lab.client() as client:
        answer = await client.get(
            SANDBOXES, headers={"Authorization": f"{scheme} {lab.admin.token}"}
        )

    assert answer.status_code == 200


async def test_a_viewer_reads_and_does_nothing_else(lab: Lab) -> None:
    """Reading is answered, also with 404; every other verb is a 403 before anything is looked up."""
    async with lab.client(lab.access("bob", "viewer").token) as client:
        assert (await client.get(SANDBOXES)).status_code == 200
        assert (await client.get(f"{SANDBOXES}/x")).status_code == 404
        refused = [
            await client.request(method, f"{SANDBOXES}/x") for method in ("PUT", "PATCH", "DELETE")
        ]
        refused.append(await client.post(SANDBOXES, json={}))

    assert [status_of(answer)[:2] for answer in refused] == [(403, "Forbidden")] * 4
    assert refused[2].json()["details"] == {
        "name": "x", "group": "sandboxer.dev", "kind": "sandboxes",
    }  # fmt: skip


async def test_a_token_counts_from_when_it_is_made_until_it_is_taken_away(lab: Lab) -> None:
    """A running server notices both without a restart, on an open connection too."""
    async with lab.client("sbx_not-there-yet") as client:
        assert (await client.get(SANDBOXES)).status_code == 401
        client.headers["Authorization"] = f"Bearer {lab.access('bob', 'viewer').token}"
        assert (await client.get(SANDBOXES)).status_code == 200
        lab.tokens.delete("bob")
        assert (await client.get(SANDBOXES)).status_code == 401


async def test_kubectl_says_that_a_token_is_wrong_or_has_expired(
    lab: Lab, clock: ManualClock
) -> None:
    """Who comes with a bad token reads one line, and only its owner reads that it expired."""
    bob = lab.access("bob", "viewer", ttl_s=60)
    before = await lab.kubectl("get", "sandboxes", access=bob)
    clock.advance(61)

    expired = await lab.kubectl("get", "sandboxes", access=bob)
    wrong = await lab.kubectl("get", "sandboxes", access=bob._replace(token="wrong"))

    assert before.status == 0
    assert (expired.status, wrong.status) == (1, 1)
    assert "You must be logged in to the server" in wrong.stderr
    assert "bob" not in wrong.stderr
    assert "the token of bob has expired" in expired.stderr
    async with lab.client(bob.token) as client:
        answer = await client.get(SANDBOXES)
    assert status_of(answer)[2] == "Unauthorized: the token of bob has expired"


async def test_the_port_speaks_nothing_but_tls(lab: Lab) -> None:
    """A plain request gets no answer at all."""
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(lab.endpoint.address.url.replace("https", "http") + SANDBOXES)


async def test_any_other_server_asks_for_a_token_too(lab: Lab) -> None:
    """`uvicorn sandboxer.api.app:app` is no open door, and kubectl sends no token over http."""
    async with standalone(lab) as url, httpx.AsyncClient(base_url=url) as client:
        unknown = await client.get(SANDBOXES)
        known = await client.get(SANDBOXES, headers={"Authorization": f"Bearer {lab.admin.token}"})
        ready = await client.get("/readyz")
        done = await lab.kubectl("get", "sandboxes", access=lab.admin._replace(server=url))

    assert (unknown.status_code, known.status_code, ready.status_code) == (401, 200, 200)
    assert done.status == 1
    assert "You must be logged in to the server" in done.stderr


@asynccontextmanager
async def standalone(lab: Lab) -> AsyncIterator[str]:
    """Serve the application by uvicorn itself, on a free port, without TLS."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "sandboxer.api.app:app", "--port=0",
        env=os.environ | {"SANDBOXER_DATA_DIR": str(lab.settings.data_dir)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(rb"http://\S+", await process.stderr.readline())):
                assert process.returncode is None
        yield found[0].decode()
    finally:
        process.terminate()
        await process.communicate()


def websocket_scope(*subprotocols: str, path: str) -> Message:
    return {
        "type": "websocket", "path": path, "query_string": b"", "headers": [],
        "subprotocols": list(subprotocols), "extensions": {},
    }  # fmt: skip


async def _through(lab: Lab, scope: Message) -> tuple[Message | None, list[Message]]:
    """Return the scope behind the door, if it was reached, and what was sent."""
    behind: list[Message] = []
    sent: list[Message] = []

    async def application(seen: Any, receive: Any, send: Any) -> None:
        behind.append(seen)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await Authentication(application, lab.tokens)(scope, receive, send)
    return (behind[0] if behind else None), sent


def as_subprotocol(token: str) -> str:
    coded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"base64url.bearer.authorization.k8s.io.{coded}"


EXEC = "/api/v1/namespaces/default/pods/p/exec"


async def test_a_websocket_may_bring_its_token_as_a_subprotocol(lab: Lab) -> None:
    """A browser cannot send the header; what is behind the door does not see the token."""
    scope = websocket_scope(as_subprotocol(lab.admin.token), "v5.channel.k8s.io", path=EXEC)

    behind, _ = await _through(lab, scope)

    assert behind is not None
    assert user_of(behind).name == "admin"
    assert behind["subprotocols"] == ["v5.channel.k8s.io"]


@pytest.mark.parametrize("coded", ["AAAA", "%%%", "_w", "é", ""])
async def test_a_websocket_with_a_bad_token_is_closed(lab: Lab, coded: str) -> None:
    """Where the server cannot answer with a Status, the close frame has the word."""
    scope = websocket_scope(f"base64url.bearer.authorization.k8s.io.{coded}", path=EXEC)

    behind, sent = await _through(lab, scope)

    assert behind is None
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "Unauthorized"}]


@pytest.mark.parametrize(
    "path", [EXEC, f"{EXEC}%0A", f"{SANDBOXES}/a/exec", f"{SANDBOXES}/a/portforward%0A"]
)
async def test_viewers_open_no_streams_into_sandboxes(lab: Lab, path: str) -> None:
    """An exec or a portforward is a GET on the wire and a write all the same, however written."""
    token = lab.access("bob", "viewer").token
    url = lab.endpoint.address.url.replace("https", "wss") + path

    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connect(
            url, ssl=lab.context(), additional_headers={"Authorization": f"Bearer {token}"}
        ):
            pass

    assert caught.value.response.status_code == 403
    assert b'User \\"bob\\" cannot' in caught.value.response.body
