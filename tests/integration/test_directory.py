"""A spec directory against a real store, look by look: what it applies and what it takes away."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import TransientError
from sandboxer.kinds.event import Event
from sandboxer.kinds.meta import FINALIZER
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources.apply import LABEL_SOURCE, apply_resources
from sandboxer.sources.directory import (
    APPROVAL_FILE,
    CONFIRM_S,
    SUSPEND_ANNOTATION,
    DirectorySource,
    source_id,
)
from sandboxer.sources.pruning import PRUNE_ANNOTATION
from sandboxer.store import Store
from sandboxer.testing import builders
from sandboxer.testing.clock import ManualClock

HEAD = "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata:\n  name: {}\n"


class Lab:
    """One directory, one store, and a source whose time moves by hand."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self.root = root
        self.clock = ManualClock()
        self.source = self.restarted()

    def restarted(self, *, partial: bool = False, allow_empty: bool = False) -> DirectorySource:
        """Return the source as a new process would make it."""
        self.source = DirectorySource(
            self.store, self.root, clock=self.clock, partial=partial, allow_empty=allow_empty
        )
        return self.source

    def write(self, file: str, *names: str, env: str = "1", annotation: str = "") -> None:
        """Write a file that describes these sandboxes."""
        noted = f'  annotations: {{{annotation}: "true"}}\n' if annotation else ""
        spec = f'spec: {{env: {{X: "{env}"}}}}\n'
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(HEAD.format(name) + noted + spec for name in names))

    def stored(self) -> dict[str, Sandbox]:
        return {obj.metadata.name: obj for obj in self.store.list(Sandbox)}

    def names(self) -> set[str]:
        return set(self.stored())

    async def look_twice(self) -> None:
        """Look, wait as long as a deletion has to, and look again."""
        await self.source.look()
        self.clock.advance(CONFIRM_S)
        await self.source.look()

    async def edit(self, name: str, **metadata: object) -> None:
        """Change metadata of an object by hand."""
        obj = self.stored()[name]
        await self.store.update(
            obj.model_copy(update={"metadata": obj.metadata.model_copy(update=metadata)})
        )

    async def inventory(self) -> set[str]:
        return {entry.key.name for entry in await self.store.load_inventory(self.source.source)}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A directory that holds sandboxes a and b, applied."""
    store = await Store.open(tmp_path / "data/store.db", clock=SystemClock())
    made = Lab(store, tmp_path / "specs")
    made.write("a.yaml", "a")
    made.write("b.yaml", "b")
    report = await made.source.look()
    assert [key.name for key in report.changed] == ["a", "b"]
    yield made
    await store.close()


async def test_a_second_look_changes_nothing(lab: Lab) -> None:
    """Nothing new is nothing written."""
    revision = lab.store.revision

    report = await lab.source.look()

    assert (report.problems, report.changed, report.deleted) == ((), (), ())
    assert lab.store.revision == revision


async def test_what_is_applied_carries_its_source(lab: Lab) -> None:
    """The label says which directory keeps an object."""
    assert lab.stored()["a"].metadata.labels == {LABEL_SOURCE: source_id(lab.root)}


async def test_an_edit_is_followed_and_a_hand_edit_is_put_back(lab: Lab) -> None:
    """What the directory says holds, also against somebody else."""
    lab.write("a.yaml", "a", env="2")
    await lab.source.look()
    followed = lab.stored()["a"].spec.env
    by_hand = builders.sandbox("a", env={"X": "by hand", "Y": "by hand"})
    await apply_resources(lab.store, [by_hand], force=True)

    report = await lab.source.look()

    assert followed == {"X": "2"}
    assert [key.name for key in report.changed] == ["a"]
    assert lab.stored()["a"].spec.env == {"X": "2", "Y": "by hand"}


async def test_a_default_that_is_written_out_is_held_from_then_on(lab: Lab) -> None:
    """Somebody may set what the directory leaves open, until the directory names it."""
    by_hand = builders.sandbox("a", driftPolicy="Report")
    await apply_resources(lab.store, [by_hand])
    await lab.source.look()
    left_open = lab.stored()["a"].spec.drift_policy
    path = lab.root / "a.yaml"
    path.write_text(path.read_text().replace("spec: {", "spec: {driftPolicy: Repair, "))

    await lab.source.look()

    assert left_open == "Report"
    assert lab.stored()["a"].spec.drift_policy == "Repair"


async def test_what_is_gone_goes_only_when_it_was_missing_twice(lab: Lab) -> None:
    """One look without a manifest deletes nothing; another one, long enough after, does."""
    (lab.root / "b.yaml").unlink()

    first = await lab.source.look()
    lab.clock.advance(CONFIRM_S - 0.1)
    too_early = await lab.source.look()
    lab.clock.advance(0.1)
    confirmed = await lab.source.look()

    assert (first.deleted, too_early.deleted) == ((), ())
    assert [key.name for key in confirmed.deleted] == ["b"]
    assert lab.names() == {"a"}


async def test_what_comes_back_in_between_starts_anew(lab: Lab) -> None:
    """A file that an editor replaces is not missing from before."""
    (lab.root / "b.yaml").unlink()
    await lab.source.look()
    lab.write("b.yaml", "b")
    await lab.source.look()
    (lab.root / "b.yaml").unlink()
    lab.clock.advance(CONFIRM_S)

    report = await lab.source.look()

    assert report.deleted == ()


async def test_an_incomplete_look_starts_the_wait_anew(lab: Lab) -> None:
    """Doubt in between counts against a deletion."""
    (lab.root / "b.yaml").unlink()
    await lab.source.look()
    (lab.root / "c.yaml").write_text("kind: [\n")
    await lab.source.look()
    (lab.root / "c.yaml").unlink()
    lab.clock.advance(CONFIRM_S)

    report = await lab.source.look()

    assert report.deleted == ()


async def test_an_incomplete_directory_applies_and_deletes_nothing(lab: Lab) -> None:
    """One broken file holds everything until it is repaired."""
    lab.write("a.yaml", "a", env="2")
    lab.write("c.yaml", "c")
    (lab.root / "b.yaml").write_text("kind: [\n")

    await lab.look_twice()
    held = (lab.names(), lab.stored()["a"].spec.env)
    report = await lab.source.look()
    lab.write("b.yaml", "b")
    await lab.source.look()

    assert held == ({"a", "b"}, {"X": "1"})
    assert [problem.startswith(f"{lab.root}/b.yaml:2:1") for problem in report.problems] == [True]
    assert lab.names() == {"a", "b", "c"}
    assert lab.stored()["a"].spec.env == {"X": "2"}


async def test_a_partial_source_applies_what_is_right_and_deletes_nothing(lab: Lab) -> None:
    """With `partial` the good files are followed; doubt still deletes nothing."""
    lab.restarted(partial=True)
    lab.write("c.yaml", "c", "d")
    lab.write("d.yaml", "d")
    (lab.root / "b.yaml").write_text("kind: [\n")
    (lab.root / "a.yaml").unlink()

    await lab.look_twice()

    assert lab.names() == {"a", "b", "c"}


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("allow_empty", [False, True])
async def test_a_missing_directory_deletes_nothing(
    lab: Lab, *, partial: bool, allow_empty: bool
) -> None:
    """Renamed away, unmounted or mistyped: nothing is touched, and it is followed when it is back."""
    lab.restarted(partial=partial, allow_empty=allow_empty)
    away = lab.root.rename(lab.root.with_name("away"))
    await lab.look_twice()
    report = await lab.source.look()
    kept = lab.names()
    away.rename(lab.root)
    lab.write("c.yaml", "c")
    back = await lab.source.look()

    assert report.problems
    assert kept == {"a", "b"}
    assert ([key.name for key in back.changed], back.problems) == (["c"], ())


async def test_an_empty_directory_deletes_nothing(lab: Lab) -> None:
    """An unmounted volume leaves an empty directory; that is no wish."""
    shutil.rmtree(lab.root)
    lab.root.mkdir()

    await lab.look_twice()
    report = await lab.source.look()

    assert "holds no manifest" in report.problems[0]
    assert lab.names() == {"a", "b"}


async def test_an_empty_directory_is_a_wish_when_it_may_be(lab: Lab) -> None:
    """`allow_empty` lets the last manifests go, after the usual wait."""
    lab.restarted(allow_empty=True)
    (lab.root / "a.yaml").unlink()
    (lab.root / "b.yaml").unlink()

    await lab.look_twice()

    assert lab.names() == set()


async def test_a_directory_that_never_held_anything_is_in_order(lab: Lab, tmp_path: Path) -> None:
    """Somebody who just begins is not told of a mistake."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new/example.yaml").write_text("# nothing yet\n")

    report = await DirectorySource(lab.store, tmp_path / "new", clock=lab.clock).look()

    assert report.problems == ()


async def test_a_renamed_file_is_the_same_object(lab: Lab) -> None:
    """Identity is the object's, never the file's."""
    before = lab.stored()
    lab.write("sub/all.yaml", "b", "a")
    (lab.root / "a.yaml").unlink()
    (lab.root / "b.yaml").unlink()

    await lab.look_twice()

    assert lab.stored() == before


async def test_a_flipped_link_is_followed(lab: Lab, tmp_path: Path) -> None:
    """git-sync replaces a link to a checkout; what both hold is not touched."""
    lab.root.rename(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    lab.root.symlink_to("one")
    await lab.source.look()
    before = lab.stored()["a"]
    lab.root = tmp_path / "two"
    lab.write("c.yaml", "c")
    (tmp_path / "two/b.yaml").unlink()

    (tmp_path / "link").symlink_to("two")
    (tmp_path / "link").replace(tmp_path / "specs")
    await lab.look_twice()

    assert lab.names() == {"a", "c"}
    assert lab.stored()["a"] == before


async def test_many_at_once_need_a_word(lab: Lab) -> None:
    """A mass deletion is held, however often it is seen, until this very state is approved."""
    lab.write("many.yaml", *(f"m{number}" for number in range(6)))
    await lab.source.look()
    (lab.root / "many.yaml").unlink()
    await lab.look_twice()
    lab.clock.advance(CONFIRM_S)
    held = await lab.source.look()
    digest = held.blocked.split("echo ")[1].split()[0]

    (lab.root / APPROVAL_FILE).write_text("0123456789abcdef\n")
    wrong = await lab.source.look()
    (lab.root / APPROVAL_FILE).write_text(f"{digest}\n")
    approved = await lab.source.look()

    assert "6 of 8" in held.blocked
    assert wrong.deleted == ()
    assert len(approved.deleted) == 6
    assert lab.names() == {"a", "b"}


async def test_an_approval_is_for_one_state_only(lab: Lab) -> None:
    """A word given for one deletion does not let the next one through."""
    lab.write("many.yaml", *(f"m{number}" for number in range(6)))
    lab.write("more.yaml", *(f"n{number}" for number in range(6)))
    await lab.source.look()
    (lab.root / "many.yaml").unlink()
    digest = (await lab.source.look()).blocked.split("echo ")[1].split()[0]
    (lab.root / APPROVAL_FILE).write_text(digest)
    (lab.root / "more.yaml").unlink()

    await lab.look_twice()

    assert len(lab.names()) == 14


async def test_an_approval_that_is_no_file_is_none(lab: Lab) -> None:
    """A named pipe in its place neither approves nor stops the controller."""
    os.mkfifo(lab.root / APPROVAL_FILE)

    assert (await lab.source.look()).problems == ()


async def test_an_object_may_be_kept(lab: Lab) -> None:
    """`prune: disabled` keeps what a removed file described, for good."""
    await lab.edit("b", annotations={PRUNE_ANNOTATION: "disabled"})
    (lab.root / "b.yaml").unlink()

    await lab.look_twice()
    await lab.edit("b", annotations={})
    await lab.look_twice()

    assert lab.names() == {"a", "b"}
    assert await lab.inventory() == {"a"}


async def test_a_suspended_manifest_is_left_alone(lab: Lab) -> None:
    """It is neither applied nor taken for missing; without the annotation it is followed again."""
    lab.write("a.yaml", "a", env="2", annotation=SUSPEND_ANNOTATION)
    await lab.look_twice()
    suspended = lab.stored()["a"].spec.env
    lab.write("a.yaml", "a", env="2")
    await lab.source.look()

    assert suspended == {"X": "1"}
    assert lab.stored()["a"].spec.env == {"X": "2"}


async def test_what_somebody_else_made_is_never_taken_away(lab: Lab) -> None:
    """Objects that no manifest of the directory described are nobody's to prune."""
    await apply_resources(lab.store, [builders.sandbox("by-hand")])

    await lab.look_twice()

    assert "by-hand" in lab.names()


async def test_what_was_made_by_hand_is_adopted_with_its_manifest(lab: Lab) -> None:
    """A manifest of an object that is there takes it over, keeps its identity, and says so."""
    await apply_resources(lab.store, [builders.sandbox("c")])
    uid = lab.stored()["c"].metadata.uid
    lab.write("c.yaml", "c")
    await lab.source.look()
    adopted = lab.stored()["c"]
    (lab.root / "c.yaml").unlink()
    await lab.look_twice()

    assert adopted.metadata.uid == uid
    reasons = {e.reason for e in lab.store.list(Event) if e.involved_object.name == "c"}
    assert reasons == {"Adopted", "Pruned"}
    assert "c" not in lab.names()


async def test_a_namesake_made_since_is_not_taken_away(lab: Lab) -> None:
    """An object deleted and made anew by hand is another one, whatever the inventory says."""
    (lab.root / "b.yaml").unlink()
    await lab.source.look()
    await lab.store.delete(Sandbox, "b", "default")
    await apply_resources(lab.store, [builders.sandbox("b")])
    lab.clock.advance(CONFIRM_S)

    report = await lab.source.look()

    assert report.deleted == ()
    assert lab.names() == {"a", "b"}


async def test_an_object_of_another_source_is_refused_and_kept(lab: Lab, tmp_path: Path) -> None:
    """Two directories with the same object: the first keeps it, the second is told."""
    shutil.copytree(lab.root, tmp_path / "copy")
    before = lab.stored()
    other = DirectorySource(lab.store, tmp_path / "copy", clock=lab.clock)

    report = await other.look()
    (tmp_path / "copy/a.yaml").unlink()
    lab.clock.advance(CONFIRM_S)
    await other.look()

    assert len(report.problems) == 2
    assert report.problems[0].startswith(f"{tmp_path}/copy/a.yaml:1: ")
    assert lab.stored() == before


async def test_an_object_stays_known_until_it_is_gone(lab: Lab) -> None:
    """What a finalizer holds is waited for; its entry leaves the inventory after the object."""
    await lab.edit("b", finalizers=(FINALIZER,))
    (lab.root / "b.yaml").unlink()
    await lab.look_twice()
    await lab.look_twice()
    while_deleting = await lab.inventory()
    await lab.edit("b", finalizers=())
    await lab.source.look()

    assert while_deleting == {"a", "b"}
    assert await lab.inventory() == {"a"}


async def test_a_manifest_that_returns_too_early_waits(lab: Lab) -> None:
    """Reverting a removal while the object is still going: told now, made anew when it is gone."""
    await lab.edit("b", finalizers=(FINALIZER,))
    (lab.root / "b.yaml").unlink()
    await lab.look_twice()
    lab.write("b.yaml", "b")

    waiting = await lab.source.look()
    await lab.edit("b", finalizers=())
    back = await lab.source.look()

    assert "being deleted" in waiting.problems[0]
    assert [key.name for key in back.changed] == ["b"]


async def test_a_restart_forgets_nothing(lab: Lab) -> None:
    """What a former process applied is pruned by the next one, after a wait of its own."""
    (lab.root / "b.yaml").unlink()
    await lab.source.look()
    lab.clock.advance(CONFIRM_S)

    first = await lab.restarted().look()
    await lab.look_twice()

    assert first.deleted == ()
    assert lab.names() == {"a"}


async def test_a_crash_after_the_superset_leaves_nothing_unknown(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between apply and record, the object is known: its manifest gone, it goes."""
    lab.write("c.yaml", "c")
    save, calls = lab.store.save_inventory, []

    async def dies_at_the_second(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise TransientError("The process ends here.")
        await save(*arguments)  # type: ignore[arg-type] # passed on as they are

    monkeypatch.setattr(lab.store, "save_inventory", dies_at_the_second)
    with pytest.raises(TransientError):
        await lab.source.look()
    monkeypatch.undo()
    assert "c" in lab.names()

    lab.restarted()
    (lab.root / "c.yaml").unlink()
    await lab.look_twice()

    assert lab.names() == {"a", "b"}


async def test_a_crash_before_the_apply_deletes_nothing_of_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the apply, an object of that name made by hand since is not ours."""
    lab.write("c.yaml", "c")
    save = lab.store.save_inventory

    async def dies_after_the_first(*arguments: object) -> None:
        await save(*arguments)  # type: ignore[arg-type] # passed on as they are
        raise TransientError("The process ends here.")

    monkeypatch.setattr(lab.store, "save_inventory", dies_after_the_first)
    with pytest.raises(TransientError):
        await lab.source.look()
    monkeypatch.undo()
    assert "c" not in lab.names()

    lab.restarted()
    (lab.root / "c.yaml").unlink()
    await apply_resources(lab.store, [builders.sandbox("c")])
    await lab.look_twice()

    assert "c" in lab.names()


def test_a_directory_has_one_id_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative or absolute, with dots or without: the same source."""
    monkeypatch.chdir(tmp_path)

    ids = {
        source_id(Path(text)) for text in ("specs", "./specs/", "x/../specs", f"{tmp_path}/specs")
    }

    assert len(ids) == 1
    assert source_id(Path("other")) not in ids
