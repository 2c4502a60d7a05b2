"""Which objects a name on the command line means, above all where they are deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sandboxer.cli.get import select
from sandboxer.cli.names import Reference, get_sandbox
from sandboxer.client import Client
from sandboxer.errors import NotFoundError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from sandboxer.testing.builders import sandbox
from tests.e2e.installation import Installation


async def test_only_an_id_may_be_the_beginning_of_a_uid(client: Client, store: Store) -> None:
    """Eight digits are an ID, in any namespace; fewer are none, nor is what stands after a kind."""
    made = await store.create(sandbox("one"))
    uid = made.metadata.uid
    short = f"sbx-{uid.replace('-', '')[:12]}"

    for name in ("one", "sbx/one", uid, uid[:8], f"{uid[:8]}-", short):
        namespace = "default" if "one" in name else "elsewhere"
        assert (await get_sandbox(client, name, namespace)).key == made.key
    for name in (uid[:7], f"{uid[:7]}-", "--------", f"sbx/{uid[:8]}", f"sbx/{uid}"):
        with pytest.raises(NotFoundError):
            await get_sandbox(client, name, "default")
    with pytest.raises(NotFoundError):
        await select(client, [Reference(Sandbox, uid[:8])], "default")


def test_a_missing_name_spares_no_other(tmp_path: Path) -> None:
    """With --ignore-not-found what is there is deleted, wherever the missing name stands."""
    here = Installation(tmp_path)
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Profile"}
    spec = {"candidates": [{"extension": "ext.local"}]}
    documents = [{**head, "metadata": {"name": name}, "spec": spec} for name in ("a", "b", "c")]
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    said = here.ok("delete", "profile", "a", "gone", "b", "--ignore-not-found")
    left = here.ok("get", "profiles", "-o", "name").split()

    assert said.split("\n") == ["profile/a deleted", "profile/b deleted", ""]
    assert {"profile/a", "profile/b", "profile/c"} & set(left) == {"profile/c"}


def test_nothing_is_deleted_by_the_clock_of_another_machine(tmp_path: Path) -> None:
    """`expire --apply` is refused for a server, which deletes by itself, without asking it."""
    here = Installation(tmp_path)

    refused = here.run("expire", "--apply", SANDBOXER_SERVER="unix:///nowhere/at/all")

    assert refused.returncode == 1
    assert "The controller there deletes it by itself" in refused.stderr
