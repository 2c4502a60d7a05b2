"""The client of the command line against the real application on a real socket."""

from __future__ import annotations

import asyncio
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandboxer.api.app import create_app
from sandboxer.api.private import served_privately
from sandboxer.cli.exits import RefusedError
from sandboxer.cli.progress import ready
from sandboxer.client import Client, ExpiredError, Mirror, Mirrors, Server
from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError, UnreachableError
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Create, Store

LOCAL = HostSpec(transport="local")


def sandbox(name: str, **labels: str) -> Sandbox:
    return Sandbox(metadata=ObjectMeta(name=name, namespace="default", labels=labels))


async def test_private_socket_is_for_this_user_and_goes(store: Store, tmp_path: Path) -> None:
    """Only the owner can reach it, and nothing is left of it."""
    async with served_privately(create_app(store), tmp_path) as path:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.parent == tmp_path

    assert not path.parent.exists()


async def test_private_socket_finds_a_place_when_the_path_is_long(
    store: Store, tmp_path: Path
) -> None:
    """A deep data directory is no reason not to serve."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()

    async with served_privately(create_app(store), deep) as path:
        client = Client(Server(socket=path))
        assert await client.is_ready()
        await client.close()

    assert not path.parent.exists()


async def test_objects_come_typed_and_go(client: Client) -> None:
    """Create, get, list, delete; what is not there is None, or an error where it must be there."""
    created = await client.create(sandbox("a", app="x"))

    assert await client.get(Sandbox, "a", "default") == created
    assert await client.get(Sandbox, "b", "default") is None
    assert (await client.list(Sandbox, labels="app=x")).items == [created]
    assert (await client.list(Sandbox, labels="app=y")).items == []
    with pytest.raises(ConflictError):
        await client.create(sandbox("a"))
    with pytest.raises(ConflictError):
        await client.delete(Sandbox, "a", "default", uid="another")
    assert await client.delete(Sandbox, "a", "default", uid=created.metadata.uid) is None
    with pytest.raises(NotFoundError):
        await client.delete(Sandbox, "a", "default")


async def test_dry_run_stores_nothing(client: Client) -> None:
    """A judged create is not there afterwards."""
    await client.create(sandbox("a"), dry_run=True)

    assert await client.get(Sandbox, "a", "default") is None


async def test_apply_says_what_it_did(client: Client) -> None:
    """Created, then unchanged, then configured; a dry run says the same and changes nothing."""
    manifest, changed = sandbox("a", app="x"), sandbox("a", app="y")

    results = [
        (await client.apply(manifest)).result,
        (await client.apply(manifest)).result,
        (await client.apply(changed, dry_run=True)).result,
        (await client.apply(manifest)).result,
        (await client.apply(changed)).result,
    ]

    assert results[:2] == ["created", "unchanged"]
    assert results[3:] == ["unchanged", "configured"]


async def test_only_what_was_written_is_owned(client: Client) -> None:
    """Defaults of a manifest belong to nobody, so that others can set them without a conflict."""
    applied = (await client.apply(sandbox("a", app="x"))).resource

    (owner,) = applied.metadata.managed_fields
    assert owner.manager == "sandboxer"
    assert owner.fields_v1 == {"f:metadata": {"f:labels": {"f:app": {}}}}


async def test_refusals_of_the_server_are_our_errors(client: Client) -> None:
    """A selector that cannot be read is a mistake of the caller."""
    with pytest.raises(InvalidSpecError):
        await client.list(Sandbox, labels="a in")


async def test_list_is_read_page_by_page(client: Client, store: Store) -> None:
    """More objects than fit a page are all there, once each."""
    names = [f"s{number:04}" for number in range(1_203)]
    await store.write([Create(sandbox(name)) for name in names])

    listed = await client.list(Sandbox, "default")

    assert sorted(each.metadata.name for each in listed.items) == names


async def test_watch_goes_on_where_a_server_stopped(store: Store, tmp_path: Path) -> None:
    """A watch that loses its server misses nothing once there is another one over the same store."""
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        path = await first.enter_async_context(served_privately(create_app(store), tmp_path))

        async def recover(_: UnreachableError) -> bool:
            app = create_app(store)
            asking.move(
                Server(socket=await stack.enter_async_context(served_privately(app, tmp_path)))
            )
            return True

        asking = Client(Server(socket=path), recover=recover)
        stack.push_async_callback(asking.close)
        watching = asking.watch(Sandbox, since=str(store.revision))
        await store.create(sandbox("before"))
        seen = [await anext(watching)]
        await first.aclose()
        await store.create(sandbox("meanwhile"))
        async with asyncio.timeout(60):
            seen.append(await anext(watching))

    assert [change.document["metadata"]["name"] for change in seen] == ["before", "meanwhile"]


async def test_watch_from_a_forgotten_revision_says_so(client: Client, store: Store) -> None:
    """What was compacted cannot be delivered, and nobody pretends."""
    for number in range(5):
        await store.create(sandbox(f"s{number}"))
    await store.compact(keep=1)

    with pytest.raises(ExpiredError):
        await anext(client.watch(Sandbox, since="1"))


async def test_mirror_follows_and_lists_again_when_it_fell_behind(
    store: Store, tmp_path: Path
) -> None:
    """A mirror is equal to the store again although its server forgot where it stood."""
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        path = await first.enter_async_context(served_privately(create_app(store), tmp_path))
        again = asyncio.Event()

        async def recover(_: UnreachableError) -> bool:
            await again.wait()
            app = create_app(store)
            asking.move(
                Server(socket=await stack.enter_async_context(served_privately(app, tmp_path)))
            )
            return True

        asking = Client(Server(socket=path), recover=recover)
        stack.push_async_callback(asking.close)
        kept = await store.create(sandbox("kept"))
        gone = await store.create(sandbox("gone"))
        mirror = Mirror(asking, Sandbox, "default")
        running = asyncio.create_task(mirror.run())
        await mirror.listed()
        assert mirror.get(gone.key) == gone
        await first.aclose()
        await store.delete(Sandbox, "gone", "default")
        for number in range(5):
            await store.create(Host(metadata=ObjectMeta(name=f"h{number}"), spec=LOCAL))
        await store.compact(keep=1)
        again.set()
        async with asyncio.timeout(60):
            while mirror.get(gone.key) is not None:
                await mirror.changed.wait()
                mirror.changed.clear()
        assert mirror.get(kept.key) == kept
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_mirrors_answer_when_something_changes(client: Client, store: Store) -> None:
    """A question about objects of several kinds is asked again after each change."""
    profile, box = Profile.parse(PROFILE), sandbox("a")
    mirrors = Mirrors(client, {profile.key: Profile, box.key: Sandbox})
    await mirrors.start()
    asked = asyncio.create_task(
        mirrors.until(
            lambda: mirrors.get(profile.key) is not None and mirrors.get(box.key) is not None,
            while_=lambda: True,
        )
    )
    await store.create(profile)
    await store.create(box)

    async with asyncio.timeout(60):
        assert await asked
    assert not await mirrors.until(lambda: False, while_=lambda: False)
    await mirrors.stop()


@pytest.mark.parametrize(
    ("finalizers", "error"),
    [
        pytest.param((), NotFoundError, id="gone"),
        pytest.param(("sandboxer.dev/test",), RefusedError, id="going"),
    ],
)
async def test_a_wait_for_ready_ends_with_what_is_waited_for(
    client: Client, store: Store, finalizers: tuple[str, ...], error: type[Exception]
) -> None:
    """What is deleted before it is Ready is not waited for any longer, and the error says so."""
    box = sandbox("a")
    kept = box.metadata.model_copy(update={"finalizers": finalizers})
    await store.create(box.model_copy(update={"metadata": kept}))
    mirrors = Mirrors(client, {box.key: Sandbox})
    await mirrors.start()
    is_ready = ready([box.key])(mirrors)
    waiting = asyncio.create_task(mirrors.until(is_ready, while_=lambda: True))
    assert not is_ready()

    await store.delete(Sandbox, "a", "default")

    with pytest.raises(error, match=r"deleted"):
        async with asyncio.timeout(60):
            await waiting
    await mirrors.stop()


PROFILE = {
    "apiVersion": "sandboxer.dev/v1alpha1",
    "kind": "Profile",
    "metadata": {"name": "p"},
    "spec": {"candidates": [{"extension": "ext.local"}]},
}


async def test_nobody_at_the_socket_is_unreachable(tmp_path: Path) -> None:
    """A socket that is not there, or nobody listens on, is an error that names it."""
    client = Client(Server(socket=tmp_path / "none.sock"))

    with pytest.raises(UnreachableError, match=r"none\.sock"):
        await client.list(Sandbox)
    assert not await client.is_ready()
    await client.close()
