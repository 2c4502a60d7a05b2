"""
Servers of `benchmarks/api.py`, each a process: ours, what the machine allows, and the obvious way.

    ours         the API as the controller serves it, without the engine
    limit        raw ASGI that answers with prepared bytes; writes are group commits of the body
    limit-watch  no HTTP server at all: an asyncio transport per watch, each event encoded once
    naive        FastAPI with models in a dictionary and a SQLModel session for each write; a queue
                 for each watch, and json.dumps for each watch and event

All of them listen on a Unix socket and with TLS, and on a second Unix socket for what the benchmark
itself asks: make changes, tell the newest revision. `apply-limit` and `apply-naive` store a file
of manifests and end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import queue
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import event
from sqlmodel import Session, create_engine
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.store import sandbox, status
from sandboxer.api.app import create_app
from sandboxer.api.kubeconfig import read_access
from sandboxer.api.listening import Address, listen_tcp
from sandboxer.api.server import APIServer, Endpoint, Exposure, open_endpoint
from sandboxer.api.tokens import TokenFile
from sandboxer.clock import SystemClock
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager.builtins import builtin_resources, register_builtins
from sandboxer.registry import load_registry
from sandboxer.settings import Settings, settings_from_environment
from sandboxer.store import Create, Store
from sandboxer.store.database import Database
from sandboxer.store.tables import ObjectRow

LIST = "/apis/sandboxer.dev/v1alpha1/namespaces/default/sandboxes"
JSON = [(b"content-type", b"application/json")]
FILL = 1_000
"""Objects written in one transaction."""


class Arm(Protocol):
    """One server."""

    async def serve(self, settings: Settings, endpoint: Endpoint) -> None:
        """Listen on the settings' socket and on the endpoint until cancelled."""

    async def publish(self, number: int) -> int:
        """Change one object, tell all watches, and return its new revision."""

    def revision(self) -> int:
        """Return the newest revision."""


class Ours:
    """The API over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def serve(self, settings: Settings, endpoint: Endpoint) -> None:
        """Listen on both sockets."""
        registry = load_registry()
        await register_builtins(self._store, builtin_resources(registry))
        app = create_app(self._store, registry=registry)
        tokens = TokenFile(settings.tokens_path, SystemClock())
        server = APIServer(app, settings.socket_path, (endpoint, tokens))
        gc.collect()
        gc.freeze()  # as the controller does
        async with server.serving():
            server.open()
            await asyncio.Event().wait()

    async def publish(self, number: int) -> int:
        """Make one change and tell all watches."""
        obj = self._store.get(Sandbox, "sandbox-0")
        assert obj is not None
        changed = await self._store.update_status(
            obj.model_copy(update={"status": status(0, number + 1)})
        )
        return int(changed.metadata.resource_version)

    def revision(self) -> int:
        """Return the newest revision."""
        return self._store.revision


class GroupCommit:
    """Raw sqlite3 with one thread that commits whatever is waiting: a durable write at its least."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[str, bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE o(name TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;"
        )
        threading.Thread(target=self._write, daemon=True).start()

    async def put(self, name: str, body: bytes) -> None:
        """Store *body*, durably; an empty one removes."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((name, body, future))
        await future

    def _write(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while not self._jobs.empty():
                batch.append(self._jobs.get())
            self._connection.execute("BEGIN IMMEDIATE")
            for name, body, _ in batch:
                if body:
                    self._connection.execute("INSERT OR REPLACE INTO o VALUES (?, ?)", (name, body))
                else:
                    self._connection.execute("DELETE FROM o WHERE name = ?", (name,))
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, [future for _, _, future in batch])


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)


class Limit:
    """Prepared bytes out, group commits in."""

    def __init__(self, directory: Path, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies
        self._commits = GroupCommit(directory / "limit.db")

    async def serve(self, settings: Settings, endpoint: Endpoint) -> None:
        """Listen on both sockets."""
        await _serve(self._answer, settings, endpoint)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "GET":
            body = self._listed() if path == LIST else self._bodies[path.rpartition("/")[2]]
        else:
            given = (await receive()).get("body", b"")
            await self._commits.put(path if method != "POST" else given[:200].decode(), given)
            body = given or b"{}"
        headers = [*JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _listed(self) -> bytes:
        return b'{"kind":"SandboxList","items":[' + b",".join(self._bodies.values()) + b"]}"

    async def publish(self, number: int) -> int:
        """Refuse: `limit-watch` does that."""
        raise NotImplementedError(number)

    def revision(self) -> int:
        """Return the newest revision."""
        return 0


class LimitWatch:
    """A transport for each watch, and nothing else."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._watches: set[asyncio.WriteTransport] = set()
        self._revision = 0

    async def serve(self, settings: Settings, endpoint: Endpoint) -> None:
        """Listen on both sockets."""
        loop = asyncio.get_running_loop()

        def made() -> asyncio.Protocol:
            return _Transmitting(self._watches)

        await loop.create_unix_server(made, str(settings.socket_path))
        await loop.create_server(made, sock=endpoint.listening, ssl=endpoint.context)
        await asyncio.Event().wait()

    async def publish(self, number: int) -> int:
        """Make one change and tell all watches."""
        del number
        self._revision += 1
        event_ = _event(self._document, self._revision)
        line = json.dumps(event_, separators=(",", ":")).encode() + b"\n"
        chunk = b"%x\r\n%s\r\n" % (len(line), line)
        for transport in self._watches:
            transport.write(chunk)
        await asyncio.sleep(0)
        return self._revision

    def revision(self) -> int:
        """Return the newest revision."""
        return self._revision


class _Transmitting(asyncio.Protocol):
    def __init__(self, watches: set[asyncio.WriteTransport]) -> None:
        self._watches = watches
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if data.startswith(b"GET"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._watches.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._transport is not None:
            self._watches.discard(self._transport)


def _event(document: dict[str, Any], revision: int) -> dict[str, Any]:
    metadata = {**document["metadata"], "resourceVersion": str(revision)}
    return {"type": "MODIFIED", "object": {**document, "metadata": metadata}}


class Naive:
    """Models in a dictionary, a session for each write, a queue for each watch."""

    def __init__(self, directory: Path, models: dict[str, Sandbox]) -> None:
        self._models = models
        self._engine = orm_engine(directory / "naive.db")
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()
        self._revision = 0

    async def serve(self, settings: Settings, endpoint: Endpoint) -> None:
        """Listen on both sockets."""
        app = FastAPI()
        one = LIST + "/{name}"
        app.add_api_route(LIST, self._list, methods=["GET"], response_model=None)
        app.add_api_route(one, self._get, methods=["GET"], response_model=Sandbox)
        app.add_api_route(LIST, self._create, methods=["POST"], response_model=Sandbox)
        app.add_api_route(one, self._patch, methods=["PATCH"], response_model=Sandbox)
        app.add_api_route(one, self._delete, methods=["DELETE"])
        await _serve(app, settings, endpoint)

    async def _get(self, name: str) -> Sandbox:
        return self._models[name]

    async def _list(self, watch: bool = False) -> Any:  # noqa: FBT001, FBT002 - a query parameter
        if watch:
            return StreamingResponse(self._events(), media_type="application/json")
        items = [model.model_dump(mode="json") for model in self._models.values()]
        return JSONResponse({"items": items})

    async def _events(self) -> AsyncIterator[bytes]:
        mine: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._queues.add(mine)
        yield b"\n"
        try:
            while True:
                yield (json.dumps(await mine.get(), separators=(",", ":")) + "\n").encode()
        finally:
            self._queues.discard(mine)

    async def _create(self, request: Request) -> Sandbox:
        model = Sandbox.parse(await request.json())
        with Session(self._engine) as session:
            session.add(row_of(model))
            session.commit()
        return model

    async def _patch(self, name: str, request: Request) -> Sandbox:
        patch = await request.json()
        with Session(self._engine) as session:
            row = self._row(session, name)
            document = json.loads(row.body)
            document["spec"] = document["spec"] | patch.get("spec", {})
            model = Sandbox.parse(document)
            row.body = model.model_dump_json(by_alias=True, exclude_none=True).encode()
            row.revision += 1
            session.add(row)
            session.commit()
        return model

    async def _delete(self, name: str) -> dict[str, str]:
        with Session(self._engine) as session:
            session.delete(self._row(session, name))
            session.commit()
        return {"status": "Success"}

    @staticmethod
    def _row(session: Session, name: str) -> ObjectRow:
        row = session.get(ObjectRow, ("Sandbox", "default", name))
        if row is None:
            raise HTTPException(404)
        return row

    async def publish(self, number: int) -> int:
        """Make one change and tell all watches."""
        self._revision += 1
        model = self._models["sandbox-0"].model_copy(update={"status": status(0, number + 1)})
        change = _event(model.to_document(), self._revision)
        for each in self._queues:
            each.put_nowait(change)
        await asyncio.sleep(0)
        return self._revision

    def revision(self) -> int:
        """Return the newest revision."""
        return self._revision


def orm_engine(path: Path) -> Any:
    """Return an engine over an empty database of ours, with the durability ours has."""
    Database(path).close()
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    def full(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = FULL")

    event.listen(engine, "connect", full)
    return engine


def row_of(model: Sandbox) -> ObjectRow:
    """Return the row of an object."""
    return ObjectRow(
        kind="Sandbox", namespace="default", name=model.metadata.name, uid=model.metadata.name,
        revision=0, generation=1, deleting=False, labels="{}",
        body=model.model_dump_json(by_alias=True, exclude_none=True).encode(),
    )  # fmt: skip


async def _serve(app: ASGIApp, settings: Settings, endpoint: Endpoint) -> None:
    """Serve with uvicorn as it comes, on both sockets."""
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(settings.socket_path))
    await asyncio.gather(_uvicorn(app, local, None), _uvicorn(app, endpoint.listening, endpoint))


async def _uvicorn(app: ASGIApp, listening: socket.socket, endpoint: Endpoint | None) -> None:
    context = endpoint.context if endpoint else None
    config = uvicorn.Config(
        app, http="httptools", interface="asgi3", lifespan="off", log_config=None,
        access_log=False, proxy_headers=False, server_header=False,
        ssl_context_factory=_given(context) if context else None,
    )  # fmt: skip
    await uvicorn.Server(config).serve(sockets=[listening])


def _given(context: ssl.SSLContext) -> Callable[..., ssl.SSLContext]:
    return lambda *_: context


def control(arm: Arm) -> ASGIApp:
    """Return what the benchmark itself asks: `/publish?count=N&gap_s=S` and `/revision`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        query = {k: float(v) for k, v in parse_qsl(scope["query_string"].decode())}
        published = []
        for number in range(int(query.get("count", 0))):
            # Before the write, so that what is measured from here includes its commit.
            at = time.monotonic()
            published.append((await arm.publish(number), at))
            await asyncio.sleep(query["gap_s"]) if query.get("gap_s") else None
        body = json.dumps({"revision": arm.revision(), "published": published}).encode()
        headers = [*JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def settings_in(directory: Path) -> Settings:
    """Return the settings of a data directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    return settings_from_environment({"SANDBOXER_DATA_DIR": str(directory)})


async def fill(directory: Path, count: int) -> None:
    """Make a store with that many sandboxes in *directory*."""
    settings = settings_in(directory)
    store = await Store.open(settings.database_path, clock=SystemClock())
    for start in range(0, count, FILL):
        made = await store.write([Create(sandbox(n)) for n in range(start, start + FILL)])
        await asyncio.gather(*(
            store.update_status(obj.model_copy(update={"status": status(start + n, 0)}))
            for n, obj in enumerate(made) if isinstance(obj, Sandbox)
        ))  # fmt: skip
    await store.compact(keep=100)
    await store.close()


async def open_arm(name: str, directory: Path, store_path: Path) -> Arm:
    """Return an arm over the objects of a store."""
    if name == "ours":
        return Ours(await Store.open(store_path, clock=SystemClock()))
    query = "SELECT name, body FROM objects WHERE kind = 'Sandbox'"
    rows = sqlite3.connect(store_path).execute(query).fetchall()
    if name == "limit":
        return Limit(directory, dict(rows))
    if name == "limit-watch":
        return LimitWatch(json.loads(rows[0][1]))
    return Naive(directory, {key: Sandbox.model_validate_json(body) for key, body in rows})


async def run(name: str, directory: Path, store_path: Path) -> None:
    """Serve one arm until killed; tells where on standard output."""
    settings = settings_in(directory)
    tokens = TokenFile(settings.tokens_path, SystemClock())
    exposure = Exposure(Address("127.0.0.1", 0))
    endpoint = open_endpoint(settings, exposure, tokens, clock=SystemClock())
    access = read_access(settings.kubeconfig_path)
    assert access is not None
    arm = await open_arm(name, directory, store_path)
    own = listen_tcp(Address("127.0.0.1", 0))
    serving: list[Awaitable[None]] = [
        arm.serve(settings, endpoint), _uvicorn(control(arm), own, None)
    ]  # fmt: skip
    told = {
        "socket": str(settings.socket_path), "port": endpoint.address.port, "token": access.token,
        "ca": access.ca_pem.decode(), "control": own.getsockname()[1],
    }  # fmt: skip
    print(json.dumps(told), flush=True)
    await asyncio.gather(*serving)


async def apply_limit(manifests: bytes, database: Path) -> None:
    """Store manifests at once."""
    loaded = yaml.load_all(manifests, Loader=yaml.CSafeLoader)
    objects = [Sandbox.parse(document) for document in loaded]
    store = await Store.open(database, clock=SystemClock())
    results = await store.write([Create(obj) for obj in objects])
    assert all(isinstance(result, Sandbox) for result in results)
    await store.close()


def apply_naive(manifests: Path, database: Path) -> None:
    """Store a file of manifests one after the other."""
    engine = orm_engine(database)
    for document in yaml.safe_load_all(manifests.read_text()):
        with Session(engine) as session:
            session.add(row_of(Sandbox.parse(document)))
            session.commit()


def manifest(name: str, number: int) -> dict[str, Any]:
    """Return what somebody writes for a sandbox."""
    spec = sandbox(number).spec
    return Sandbox(metadata=ObjectMeta(name=name, labels={"app": "bench"}), spec=spec).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    ) | {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox"}


def main() -> None:
    name, first, second = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if name == "apply-limit":
        asyncio.run(apply_limit(first.read_bytes(), second))
    elif name == "apply-naive":
        apply_naive(first, second)
    else:
        asyncio.run(run(name, first, second))


if __name__ == "__main__":
    main()
