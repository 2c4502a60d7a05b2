"""
The API, typed on the kinds: `await client.get(Sandbox, "hello", "default")`.

Refusals arrive as the errors of `sandboxer.errors`, remarks of the server go to `warn`. Nothing
here is tried twice, except that a watch is resumed: whoever asked knows whether to ask again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from sandboxer.client.authoring import written
from sandboxer.client.connection import HOST_READ_S, READ_S, Answer, Connection
from sandboxer.client.paths import path_of
from sandboxer.client.refusals import is_about, refusal, warnings_of
from sandboxer.client.server import Server
from sandboxer.client.watching import Change, changes, metadata_of
from sandboxer.errors import TerminalError, UnreachableError
from sandboxer.kinds.meta import Model, Resource

R = TypeVar("R", bound=Resource)
M = TypeVar("M", bound=Model)

FIELD_MANAGER = "sandboxer"
"""Who owns the fields that the command line sets."""

# Objects asked for at once; kubectl's own page size.
PAGE = 500

# Seconds before the next attempt to reach a server that went away during a watch.
RETRY_S = 0.5

# Seconds within which a server that can serve says so, also on a busy machine.
READY_S = 5.0

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

Propagation = Literal["", "Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """All objects of one kind, and the revision they were read at."""

    items: list[R]
    revision: str


@dataclass(frozen=True, slots=True)
class Applied(Generic[R]):
    """What became of an apply."""

    result: Literal["created", "configured", "unchanged"]
    resource: R


def _ignore(_: str) -> None:
    """Let a remark pass."""


class Client:
    """
    One API server, or one after the other.

    Args:
        server: Where it is.
        warn: Told each remark of the server, a sentence.
        recover: Awaited when a watch lost its server; may `move` the client elsewhere, which is
            then asked at once, or raise to give up. On False the watch waits a moment.
    """

    def __init__(
        self,
        server: Server,
        *,
        warn: Callable[[str], None] = _ignore,
        recover: Callable[[UnreachableError], Awaitable[bool]] | None = None,
    ) -> None:
        self._connection = Connection(server)
        self._former: list[Connection] = []
        self._warn = warn
        self._recover = recover

    @property
    def server(self) -> Server:
        """Where requests go now."""
        return self._connection.server

    def move(self, server: Server) -> None:
        """Send every further request to another server over the same objects."""
        self._former.append(self._connection)
        self._connection = Connection(server)

    async def close(self) -> None:
        """Close all connections; open watches end."""
        for connection in (*self._former, self._connection):
            await connection.close()

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """Return one object; None when there is none."""
        path = path_of(kind, namespace, name)
        answer = await self._connection.request("GET", path)
        if answer.code == 404 and is_about(answer, name):  # noqa: PLR2004 - HTTP
            return None
        return self.parsed(kind, self._document(answer))

    async def list(
        self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Listing[R]:
        """
        Return all objects of a kind, those of one namespace or (None) of all.

        Args:
            kind: Which.
            namespace: Of no meaning to a cluster-scoped kind.
            labels: Label selector.
            fields: Field selector.
        """
        documents, revision = await self.documents(
            path_of(kind, namespace), _selected(labels, fields)
        )
        return Listing([self._item(kind, each) for each in documents], revision)

    async def documents(
        self, path: str, query: Mapping[str, str]
    ) -> tuple[Sequence[dict[str, Any]], str]:
        """Return the items of a list as they are, page after page, and its revision."""
        items = []
        page = {"limit": str(PAGE)}
        while True:
            answer = await self._connection.request("GET", path, query={**query, **page})
            document = self._document(answer)
            metadata = metadata_of(document)
            items += [item for item in document.get("items") or [] if isinstance(item, dict)]
            if not (more := str(metadata.get("continue") or "")):
                return items, str(metadata.get("resourceVersion") or "")
            page["continue"] = more

    async def watch(
        self,
        kind: type[Resource],
        namespace: str | None = None,
        *,
        since: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[Change]:
        """
        Yield changes after revision *since*, bookmarks included, for ever.

        A server that ends the stream or goes away is asked again from where it stopped.

        Raises:
            ExpiredError: What happened since then is not known any more; list again.
            SandboxerError: The server refused, or whoever recovers gave up.
        """
        path, query = path_of(kind, namespace), _selected(labels, fields)
        while True:
            before = since
            try:
                async for change in changes(self._connection, path, query, since=since):
                    since = change.revision or since
                    yield change
            except UnreachableError as error:
                await self.recover(error)
            else:
                # NOTE: a server that ends every watch at once must not be asked without a pause.
                await asyncio.sleep(RETRY_S if since == before else 0)

    async def recover(self, error: UnreachableError) -> None:
        """Do what is to be done before a server that went away is asked again."""
        if self._recover is None or not await self._recover(error):
            await asyncio.sleep(RETRY_S)

    async def create(self, resource: R, *, dry_run: bool = False) -> R:
        """
        Create an object.

        Raises:
            ConflictError: There is one of that name.
            InvalidSpecError: The server refuses the document.
        """
        path = path_of(type(resource), resource.metadata.namespace)
        answer = await self._write("POST", path, written(resource), dry_run=dry_run)
        return self.parsed(type(resource), self._document(answer))

    async def apply(self, resource: R, *, force: bool = False, dry_run: bool = False) -> Applied[R]:
        """
        Apply what a manifest says by server-side apply, and own the fields it names.

        Args:
            resource: As its author wrote it; fields that were not set are left out.
            force: Take fields over that others own and set differently.
            dry_run: Judge, and store nothing.

        Raises:
            ConflictError: Others own fields and set them differently; the message names them.
        """
        kind, metadata = type(resource), resource.metadata
        before = await self.get(kind, metadata.name, metadata.namespace or "")
        answer = await self._write(
            "PATCH",
            path_of(kind, metadata.namespace, metadata.name),
            written(resource),
            content_type=APPLY,
            dry_run=dry_run,
            query={"force": "true"} if force else {},
        )
        after = self.parsed(kind, self._document(answer))
        if answer.code == 201 or before is None:  # noqa: PLR2004 - HTTP
            return Applied("created", after)
        is_same = before.metadata.resource_version == after.metadata.resource_version
        return Applied("unchanged" if is_same else "configured", after)

    async def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: Propagation = "",
    ) -> R | None:
        """
        Ask for the deletion of an object.

        Args:
            kind: Which.
            name: Which.
            namespace: Which.
            uid: Only this one, not a namesake made since.
            resource_version: Only if nobody changed it since.
            propagation: What becomes of objects it owns; empty is the server's default.

        Returns:
            The object as long as something of it has to be taken away first, None when it is gone.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is another one now, or was changed.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {name: value for name, value in conditions.items() if value}:
            options["preconditions"] = given
        options |= {"propagationPolicy": propagation} if propagation else {}
        path = path_of(kind, namespace, name)
        answer = await self._connection.request("DELETE", path, body=_encoded(options))
        document = self._document(answer)
        return None if document.get("kind") == "Status" else self.parsed(kind, document)

    async def patch(self, resource: R, change: Mapping[str, Any]) -> R:
        """
        Change fields of an object as it was read, by a JSON merge patch.

        Raises:
            ConflictError: Somebody changed it since.
        """
        kind, metadata = type(resource), resource.metadata
        path = path_of(kind, metadata.namespace, metadata.name)
        read = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
        patch = {**change, "metadata": read}
        answer = await self._write("PATCH", path, patch, content_type=MERGE)
        return self.parsed(kind, self._document(answer))

    async def scale(
        self, kind: type[Resource], name: str, namespace: str, replicas: int
    ) -> dict[str, Any]:
        """Set the number of replicas through the scale subresource; return the Scale."""
        path = path_of(kind, namespace, name, "scale")
        patch = {"spec": {"replicas": replicas}}
        return self._document(await self._write("PATCH", path, patch, content_type=MERGE))

    async def document(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
        timeout_s: float = READ_S,
    ) -> dict[str, Any]:
        """
        Return the JSON object at a path of the API that is no object of a kind.

        Args:
            path: With its query.
            method: Of HTTP.
            body: Sent as JSON.
            timeout_s: Longest silence of the server, in seconds.

        Raises:
            SandboxerError: The server refused.
        """
        content = _encoded(body) if body is not None else b""
        answer = await self._connection.request(method, path, body=content, timeout_s=timeout_s)
        return self._document(answer)

    async def revision(self, kind: type[Resource], namespace: str | None = None) -> str:
        """Return the revision of now, from which a watch can begin."""
        answer = await self._connection.request(
            "GET", path_of(kind, namespace), query={"limit": "1"}
        )
        return str(metadata_of(self._document(answer)).get("resourceVersion") or "")

    async def read(self, model: type[M], path: str, *, method: str = "GET") -> M:
        """
        Return what is at a path that is no object of a kind, as its model.

        Raises:
            SandboxerError: The server refused.
        """
        return self.parsed(model, await self.document(path, method=method))

    async def ask_host(self, model: type[M], path: str, *, method: str = "GET") -> M:
        """
        Return what is at a path for which the server works on a host first; see `read`.

        Raises:
            HostSilentError: The host does not answer.
            SandboxerError: The server refused.
        """
        return self.parsed(model, await self.document(path, method=method, timeout_s=HOST_READ_S))

    def parsed(self, kind: type[M], document: dict[str, Any]) -> M:
        """
        Return what a document of the server says.

        Raises:
            TerminalError: It is of a version that this one does not know.
        """
        try:
            return kind.model_validate_json(json.dumps(document), by_alias=True, by_name=False)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise self._not_ours(f"a {kind.__name__} with {where}: {first['msg']}") from error

    async def log(
        self, path: str, *, container: str = "", follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        """
        Yield what a sandbox printed, as it comes.

        Args:
            path: Of the Sandbox or Pod.
            container: Compose service; empty means the first one.
            follow: Go on for as long as it runs.
            tail: Only that many last lines.

        Raises:
            SandboxerError: The server refused, or went away.
        """
        asked = {"container": container, "follow": "true" if follow else ""}
        asked["tailLines"] = "" if tail is None else str(tail)
        query = {name: value for name, value in asked.items() if value}
        async with (
            self._connection.stream(f"{path}/log", query=query) as (head, chunks),
            aclosing(chunks),
        ):
            if head.code != 200:  # noqa: PLR2004 - HTTP
                raise refusal(head, self.server)
            async for chunk in chunks:
                yield chunk

    async def is_ready(self) -> bool:
        """Tell whether somebody answers there soon, and can serve."""
        try:
            answer = await self._connection.request("GET", "/readyz", timeout_s=READY_S)
        except UnreachableError:
            return False
        return answer.code == 200  # noqa: PLR2004 - HTTP

    async def _write(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any],
        *,
        content_type: str = "application/json",
        dry_run: bool = False,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        asked = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **(query or {})}
        return await self._connection.request(
            method,
            path,
            query=asked | ({"dryRun": "All"} if dry_run else {}),
            body=_encoded(document),
            content_type=content_type,
        )

    def _document(self, answer: Answer) -> dict[str, Any]:
        """Return the object an answer holds, after its remarks were passed on."""
        for text in warnings_of(answer):
            self._warn(text)
        if answer.code >= 400:  # noqa: PLR2004 - HTTP
            raise refusal(answer, self.server)
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._not_ours("an answer that is no JSON object")
        return document

    def _item(self, kind: type[R], document: dict[str, Any]) -> R:
        """Return one item of a list, whose type the list may have said for all."""
        fields = kind.model_fields
        head = {"apiVersion": fields["api_version"].default, "kind": fields["kind"].default}
        return self.parsed(kind, {**head, **document})

    def _not_ours(self, what: str) -> TerminalError:
        return TerminalError(
            f"The API at {self.server.where} sent {what}, which this sandboxer does not know.",
            reason="NotTheAPI",
            remedy="Do both have the same version? `sandboxer doctor` shows them.",
        )


def _selected(labels: str, fields: str) -> dict[str, str]:
    asked = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in asked.items() if value}


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
