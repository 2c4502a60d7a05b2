"""Archives from sandboxes: what is kept, and that nothing outside the destination is written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.cli.archive import CutOffError, pack
from sandboxer.cli.exits import RefusedError
from sandboxer.cli.unpacking import Unpacker, unpack_file

Make = Callable[[tarfile.TarFile], None]


@pytest.fixture(autouse=True)
def _usual_umask() -> None:
    os.umask(0o022)


class Place:
    """A destination, beside something that must stay as it is."""

    def __init__(self, directory: Path) -> None:
        self.outside = directory / "outside"
        self.inside = directory / "inside"
        self.outside.mkdir()
        self.inside.mkdir()
        (self.outside / "file").write_text("mine")
        self._before = self._state()

    def unpack(self, data: bytes) -> Unpacker:
        root = os.open(self.inside, os.O_RDONLY)
        try:
            unpacker = Unpacker(root)
            unpacker.unpack(io.BytesIO(data))
        finally:
            os.close(root)
        return unpacker

    def untouched(self) -> bool:
        """Tell whether nothing outside was made or changed."""
        return self._state() == self._before

    def _state(self) -> list[tuple[str, str, int]]:
        files = [*self.outside.iterdir(), *self.outside.parent.iterdir()]
        return sorted((p.name, p.read_text() if p.is_file() else "", p.lstat().st_mode) for p in files)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path)


def archived(make: Make) -> bytes:
    """Return an archive with whatever *make* adds."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        make(archive)
    return file.getvalue()


def entry(name: str, type_: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> Make:
    """Return what adds one member."""

    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = type_, link, len(content)
        archive.addfile(member, io.BytesIO(content))

    return add


def entries(*each: Make) -> bytes:
    def make(archive: tarfile.TarFile) -> None:
        for add in each:
            add(archive)

    return archived(make)


FILE, DIRECTORY, LINK, SAME = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_a_tree_arrives_as_it_was(here: Place, tmp_path: Path) -> None:
    """Content, permissions, times, links, empty directories and odd names are kept."""
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "deep" / ("n" * 200) / ("m" * 200)).mkdir(parents=True)
    (tree / "deep" / ("n" * 200) / ("m" * 200) / "ü\n ").write_bytes(bytes(range(256)) * 3)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    os.utime(tree / "run", (1_000_000_000, 1_000_000_000))
    (tree / "deep" / "link").symlink_to("../run")
    (tree / os.fsdecode(b"\xff")).write_bytes(b"")
    file = io.BytesIO()

    assert pack(file, tree, ".") == []
    seen = here.unpack(file.getvalue())

    assert seen.left_out == []
    found = {p.relative_to(here.inside): p.lstat().st_mode for p in here.inside.rglob("*")}
    assert found == {p.relative_to(tree): p.lstat().st_mode for p in tree.rglob("*")}
    assert (here.inside / "run").stat().st_mtime == 1_000_000_000
    assert (here.inside / "deep/link").read_text() == "#!/bin/sh\n"
    odd = Path("deep", "n" * 200, "m" * 200, "ü\n ")
    assert (here.inside / odd).read_bytes() == (tree / odd).read_bytes()


def test_tar_reads_what_we_write(tmp_path: Path) -> None:
    """Python's own reader finds the same in an archive of ours, sockets left out."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"x" * 513)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "tree/socket"))
    file = io.BytesIO()

    left_out = pack(file, tmp_path / "tree", ".")

    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        members = {member.name: member.size for member in archive.getmembers()}
    assert members == {".": 0, "./file": 513}
    assert left_out == [str(tmp_path / "tree/socket")]


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_form_of_long_names_is_read(here: Place, format_: int) -> None:
    """GNU's and POSIX's forms say the same."""
    name = f"{'d' * 90}/{'e' * 90}/file"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        entry(name, content=b"hello")(archive)

    here.unpack(file.getvalue())

    assert (here.inside / name).read_bytes() == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(entries(entry("/outside", content=b"x")), id="absolute"),
        pytest.param(entries(entry("../outside/file", content=b"x")), id="dots"),
        pytest.param(entries(entry("a/../../outside/file", content=b"x")), id="dots-inside"),
        pytest.param(entries(entry("..", DIRECTORY)), id="parent"),
        pytest.param(entries(entry(".", content=b"x")), id="file-without-name"),
        pytest.param(
            entries(entry("l", LINK, "down"), entry("l/file", content=b"x")), id="through-a-link"
        ),
        pytest.param(entries(entry("other", SAME, "../outside/file")), id="name-of-outside"),
        pytest.param(entries(entry("other", SAME, "/etc/passwd")), id="name-of-absolute"),
        pytest.param(
            entries(
                entry("a/b", LINK, "../outside"), entry("up", SAME, "a/b"), entry("up/file", content=b"x")
            ),
            id="link-moved-up-by-another-name",
        ),
        pytest.param(entries(entry("x" * 5000, content=b"x")), id="name-too-long"),
        pytest.param(b"\1" * 1024, id="no-archive"),
    ],
)  # fmt: skip
def test_hostile_archive_is_refused(here: Place, data: bytes) -> None:
    """What leads out, by whatever way, ends the copy, and nothing outside has changed."""
    with pytest.raises(RefusedError):
        here.unpack(data)

    assert here.untouched()


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        pytest.param(entries(entry("l", LINK, "/etc/passwd")), [], id="absolute-link"),
        pytest.param(entries(entry("l", LINK, "../outside")), [], id="link-out"),
        pytest.param(entries(entry("d/l", LINK, "../../outside")), [], id="link-out-from-below"),
        # `s` leads back to where it lies, so the dots behind it count more than they seem to.
        pytest.param(
            entries(entry("s", LINK, "."), entry("l", LINK, "s/s/../../outside")), ["s"],
            id="dots-behind-a-link",
        ),
        pytest.param(entries(entry("null", tarfile.CHRTYPE)), [], id="device"),
        pytest.param(entries(entry("disk", tarfile.BLKTYPE)), [], id="disk"),
        pytest.param(entries(entry("pipe", tarfile.FIFOTYPE)), [], id="pipe"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said(here: Place, data: bytes, kept: list[str]) -> None:
    """Links that lead out and devices are not made; the rest is, and the caller is told."""
    seen = here.unpack(data)

    assert len(seen.left_out) == seen.left_out_count == 1
    assert [path.name for path in here.inside.iterdir() if not path.is_dir() or path.is_symlink()] == kept  # fmt: skip
    assert here.untouched()


def test_links_inside_are_made(here: Place) -> None:
    """Links that stay inside and further names of a file are kept."""
    here.unpack(
        entries(
            entry("a/file", content=b"one"), entry("a/b/up", LINK, "../file"),
            entry("down", LINK, "a/b"), entry("same", SAME, "a/file"), entry("same", SAME, "a/file"),
        )
    )  # fmt: skip

    assert (here.inside / "down/up").read_text() == "one"
    assert (here.inside / "same").samefile(here.inside / "a/file")
    assert sorted(path.name for path in here.inside.iterdir()) == ["a", "down", "same"]


def test_links_that_were_here_are_not_followed(here: Place) -> None:
    """A link of the user's own is neither entered nor written through."""
    (here.inside / "away").symlink_to(here.outside)
    (here.inside / "file").symlink_to(here.outside / "file")

    here.unpack(entries(entry("file", content=b"new")))
    with pytest.raises(RefusedError, match="links are not followed"):
        here.unpack(entries(entry("away/file", content=b"new")))

    assert (here.inside / "file").read_text() == "new"
    assert here.untouched()


def test_permissions_are_never_more_than_plain(here: Place) -> None:
    """No set-user-id, no sticky bit, nothing that the umask forbids; directories stay as they are."""
    (here.inside / "mine").mkdir(mode=0o700)

    def make(archive: tarfile.TarFile) -> None:
        for name, type_ in (("file", FILE), ("new", DIRECTORY), ("mine", DIRECTORY)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = type_, 0o7777
            archive.addfile(member)

    here.unpack(archived(make))

    modes = {path.name: path.stat().st_mode & 0o7777 for path in here.inside.iterdir()}
    assert modes == {"file": 0o755, "new": 0o755, "mine": 0o700}


def test_half_a_file_never_appears(here: Place) -> None:
    """An archive that is cut anywhere is an error, and the file keeps its former content."""
    (here.inside / "file").write_text("former")
    whole = entries(entry("file", content=b"x" * 2000))

    for length in range(0, 512 + 2048 + 512, 100):
        with pytest.raises(CutOffError):
            here.unpack(whole[:length])
        if length < 512 + 2000:
            assert (here.inside / "file").read_text() == "former"
    assert [path.name for path in here.inside.iterdir()] == ["file"]


def test_one_file_is_one_file(here: Place) -> None:
    """Where a file was asked for, a second member or a link is refused."""
    root = os.open(here.inside, os.O_RDONLY)
    one = entry("whatever", content=b"one")

    unpack_file(io.BytesIO(entries(one)), root, "mine")
    with pytest.raises(RefusedError):
        unpack_file(io.BytesIO(entries(one, entry("two", content=b"2"))), root, "mine")
    with pytest.raises(RefusedError):
        unpack_file(io.BytesIO(entries(entry("link", LINK, "x"))), root, "mine")

    os.close(root)
    assert (here.inside / "mine").read_bytes() == b"one"
    assert [path.name for path in here.inside.iterdir()] == ["mine"]


def test_headers_are_not_read_without_bound(here: Place) -> None:
    """A header that announces a name of a gigabyte is refused before it is read."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**30

    with pytest.raises(RefusedError, match="bytes"):
        here.unpack(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))


@pytest.mark.parametrize(
    "record", [b"99999 path=x\n", b"0 path=x\n", b"path=x\n", b"7 path\n", b"-9 path=x\n", b"\xb2 a=b\n"]
)  # fmt: skip
def test_broken_pax_header_is_refused(here: Place, record: bytes) -> None:
    """Lengths that are not those of the record end the copy."""
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, len(record)
    header = member.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")

    with pytest.raises(RefusedError):
        here.unpack(header + entries(entry("file")))


_NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "up", "outside", "file"]), min_size=1, max_size=4
).map("/".join)
_MEMBERS = st.lists(
    st.tuples(_NAMES, st.sampled_from([FILE, DIRECTORY, LINK, SAME]), _NAMES), max_size=12
)


@given(_MEMBERS)
def test_no_archive_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, bytes, str]]
) -> None:
    """Whatever names and links it has, in any order: nothing outside is made or changed."""
    here = Place(tmp_path_factory.mktemp("place"))
    members = [
        entry(name, type_, link, b"x" if type_ == FILE else b"") for name, type_, link in made
    ]

    with contextlib.suppress(RefusedError):
        here.unpack(entries(*members))

    assert here.untouched()
    for path in here.inside.rglob("*"):
        assert _circles(path) or Path(os.path.realpath(path)).is_relative_to(here.inside)


def _circles(path: Path) -> bool:
    """Tell whether a link leads back to itself, and so nowhere."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False
