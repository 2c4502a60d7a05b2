"""Reading a directory: what counts, what makes it incomplete, and that nothing is raised."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxer.sources import snapshot as module
from sandboxer.sources.snapshot import Snapshot, read_snapshot

HEAD = "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata:\n  name: {}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one good manifest."""
    directory = tmp_path / "specs"
    directory.mkdir()
    write(directory / "a.yaml", "a")
    return directory


def write(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(HEAD.format(name) for name in names))


def names(snapshot: Snapshot) -> list[str]:
    return [document.resource.metadata.name for document in snapshot.documents]


def test_a_tree_is_read_in_the_order_of_its_paths(root: Path) -> None:
    """Directories below count, several documents in a file too, and JSON."""
    write(root / "z/deep/b.yml", "b", "c")
    (root / "j.json").write_text(
        '{"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "j"}}'
    )

    snapshot = read_snapshot(root)

    assert snapshot.is_complete
    assert names(snapshot) == ["a", "j", "b", "c"]
    assert snapshot.documents[2].origin == str(root / "z/deep/b.yml")


@pytest.mark.parametrize(
    "name",
    [".a.yaml.swp", ".hidden.yaml", "#b.yaml#", ".#b.yaml", "b.yaml~", "4913", "b.yaml.tmp",
     "README.md", ".git/b.yaml", ".prune-approved"],
)  # fmt: skip
def test_what_editors_and_git_leave_does_not_count(root: Path, name: str) -> None:
    """Hidden files and other suffixes are neither read nor a problem."""
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("kind: [\n")

    assert names(read_snapshot(root)) == ["a"]
    assert read_snapshot(root).is_complete


def test_a_missing_directory_is_a_problem(tmp_path: Path) -> None:
    """Nothing there is not the same as nothing wanted."""
    snapshot = read_snapshot(tmp_path / "specs")

    assert [problem.origin for problem in snapshot.problems] == [str(tmp_path / "specs")]


def test_a_file_in_place_of_the_directory_is_a_problem(root: Path) -> None:
    """A path that is no directory says so."""
    assert not read_snapshot(root / "a.yaml").is_complete


def test_an_empty_directory_is_complete(tmp_path: Path) -> None:
    """What emptiness means is decided by who knows what was there before."""
    assert read_snapshot(tmp_path) == Snapshot(digest=read_snapshot(tmp_path).digest)


def test_a_broken_file_is_told_and_the_others_are_read(root: Path) -> None:
    """One mistake makes the snapshot incomplete and hides nothing else."""
    (root / "b.yaml").write_text("kind: [\n")

    snapshot = read_snapshot(root)

    assert names(snapshot) == ["a"]
    assert [problem.place for problem in snapshot.problems] == [f"{root}/b.yaml:2:1"]


def test_a_half_written_document_is_a_problem(root: Path) -> None:
    """A file that ends in the middle of its metadata describes nothing."""
    whole = HEAD.format("b")
    (root / "b.yaml").write_text(whole[: whole.index("metadata")])

    assert not read_snapshot(root).is_complete


def test_an_object_in_two_files_belongs_to_neither(root: Path) -> None:
    """Both places are named, and none of the two descriptions can be applied."""
    write(root / "b.yaml", "b", "a")

    snapshot = read_snapshot(root)

    assert names(snapshot) == ["b"]
    (problem,) = snapshot.problems
    assert problem.place == f"{root}/b.yaml:6"
    assert f"{root}/a.yaml:1" in problem.message


def test_a_namespace_written_out_is_the_same_object(root: Path) -> None:
    """Identity is kind, namespace and name, with the default filled in."""
    (root / "b.yaml").write_text(HEAD.format("a\n  namespace: default"))

    assert len(read_snapshot(root).problems) == 1


def test_links_to_files_inside_are_followed(root: Path) -> None:
    """The way a mounted ConfigMap looks: links to files behind a hidden link."""
    write(root / "..2026/b.yaml", "b")
    (root / "..data").symlink_to("..2026")
    (root / "b.yaml").symlink_to("..data/b.yaml")

    snapshot = read_snapshot(root)

    assert (names(snapshot), snapshot.problems) == (["a", "b"], ())


def test_links_out_of_the_directory_are_refused(root: Path) -> None:
    """A repository cannot have the controller read somebody else's file."""
    secret = root.parent / "secret.yaml"
    write(secret, "secret")
    (root / "b.yaml").symlink_to("../secret.yaml")
    (root / "c.yaml").symlink_to("/etc/passwd")

    snapshot = read_snapshot(root)

    assert names(snapshot) == ["a"]
    assert [problem.origin for problem in snapshot.problems] == [f"{root}/b.yaml", f"{root}/c.yaml"]


@pytest.mark.parametrize("target", ["sub", "..", "/etc", "."])
def test_links_to_directories_are_refused_not_ignored(root: Path, target: str) -> None:
    """What lies behind a link would otherwise look as if it had been removed."""
    write(root / "sub/b.yaml", "b")
    (root / "link").symlink_to(target)

    assert [problem.origin for problem in read_snapshot(root).problems] == [f"{root}/link"]


def test_a_dangling_link_is_a_problem(root: Path) -> None:
    """A manifest whose content is not there cannot be read."""
    (root / "b.yaml").symlink_to("nowhere.yaml")

    assert not read_snapshot(root).is_complete


def test_a_loop_of_links_is_a_problem(root: Path) -> None:
    """Links that lead to each other end in a sentence."""
    (root / "b.yaml").symlink_to("c.yaml")
    (root / "c.yaml").symlink_to("b.yaml")

    assert len(read_snapshot(root).problems) == 2


def test_what_is_no_file_is_refused_without_waiting(root: Path) -> None:
    """A named pipe nobody writes to, a socket and a device do not hold up the reading."""
    os.mkfifo(root / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket.yaml"))
        (root / "device.yaml").symlink_to("/dev/zero")

        problems = read_snapshot(root).problems

    assert [Path(problem.origin).name for problem in problems] == [
        "device.yaml", "pipe.yaml", "socket.yaml",
    ]  # fmt: skip


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """An effective user from whom permissions can be withheld; root has them all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["b.yaml", "sub"])
def test_what_cannot_be_read_is_a_problem(ordinary_user: None, name: str) -> None:
    """A file or directory without permission is named."""
    # Not tmp_path, whose parents belong to root alone.
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write(root / "sub/c.yaml", "c")
        write(root / "b.yaml", "b")
        (root / name).chmod(0)
        try:
            problems = read_snapshot(root).problems
        finally:
            (root / name).chmod(0o700)

    assert [f"{root}/{name}" in str(problem) for problem in problems] == [True]


def test_a_name_that_is_no_text_can_be_shown(root: Path) -> None:
    """Bytes and control characters in a file's name reach neither terminal nor store."""
    (root / os.fsdecode(b"\xff.yaml")).write_text("kind: [\n")
    (root / "\x1b[31m\n.yaml").write_text("kind: [\n")

    for problem in read_snapshot(root).problems:
        assert str(problem).isprintable()
        assert str(problem).encode()


def test_names_that_are_shown_alike_are_different_files(root: Path) -> None:
    """Nothing seems missing because two names cannot be told apart on a screen."""
    write(root / "\x1b.yaml", "b")
    write(root / "\x07.yaml", "c")

    assert sorted(names(read_snapshot(root))) == ["a", "b", "c"]


def test_too_many_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong directory is noticed by its size."""
    monkeypatch.setattr(module, "MAX_FILES", 1)
    write(root / "b.yaml", "b")

    assert read_snapshot(root).documents == ()
    assert not read_snapshot(root).is_complete


def test_too_much_text_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many large files do not fill the memory."""
    monkeypatch.setattr(module, "MAX_TREE_BYTES", 100)
    write(root / "b.yaml", "b")

    assert names(read_snapshot(root)) == ["a"]
    assert not read_snapshot(root).is_complete


def test_a_file_that_is_too_large_is_a_problem(root: Path) -> None:
    """A single file is bounded, too."""
    (root / "b.yaml").write_bytes(b"#" * (5 * 2**20))

    assert "larger than" in read_snapshot(root).problems[0].message


def test_a_replaced_file_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is read is read until it keeps still, or refused."""
    once = module._read_once
    left = [1]

    def disturbed(path: Path) -> tuple[bytes, os.stat_result]:
        data = once(path)
        if left[0]:
            left[0] -= 1
            write(root / "new", f"b{left[0]}")
            (root / "new").replace(path)
        return data

    monkeypatch.setattr(module, "_read_once", disturbed)
    settled = read_snapshot(root)
    left[0] = 100
    restless = read_snapshot(root)

    assert names(settled) == ["b0"]
    assert "keeps changing" in restless.problems[0].message


def test_the_digest_is_of_objects_not_of_files(root: Path) -> None:
    """A document that moves to another file leaves the digest as it is; an edit does not."""
    write(root / "b.yaml", "b")
    before = read_snapshot(root).digest

    (root / "a.yaml").unlink()
    write(root / "sub/all.yaml", "b", "a")
    (root / "b.yaml").unlink()
    moved = read_snapshot(root).digest
    write(root / "sub/all.yaml", "b", "c")

    assert moved == before
    assert read_snapshot(root).digest != before


def test_a_file_with_the_same_content_is_not_parsed_again(root: Path) -> None:
    """What was parsed is used again for the same file, and for that content only."""
    write(root / "b.yaml", "b")
    first = read_snapshot(root)
    write(root / "b.yaml", "c")
    (root / "a.yaml").touch()

    second = read_snapshot(root, first.files)

    assert second.documents[0] is first.documents[0]
    assert names(second) == ["a", "c"]
