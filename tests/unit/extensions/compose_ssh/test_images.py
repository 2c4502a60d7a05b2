"""Which images may go when room is wanted: what engines print, read strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer_extensions.compose_ssh.image_names import canonical, matches
from sandboxer_extensions.compose_ssh.images import removable


def digest(number: int) -> str:
    return f"{number:064x}"


def image(number: int, *tags: str, **fields: Any) -> dict[str, Any]:
    """Return what podman tells of an image."""
    return {"Id": digest(number), "RepoTags": list(tags), "Size": 1000 + number, **fields}


def listing(*images: Any, used: tuple[str, ...] = (), named: tuple[str, ...] = ()) -> str:
    """Return what the script prints."""
    lines = [*(f"used {each}" for each in used), *(f"named {each}" for each in named), "images"]
    return "\n".join(lines) + "\n" + json.dumps(images)


def left(text: str, *keep: str) -> list[int]:
    """Return the numbers of the images that may go, in the order they go."""
    return [int(each.id.removeprefix("sha256:"), 16) for each in removable(text, keep=keep)]


def test_largest_goes_first_and_what_has_no_name_before_it() -> None:
    """Few removals make much room, and what nobody can ask for is missed least."""
    told = listing(image(1, "a:1"), image(9, "b:1"), image(3), image(5, "c:1"))

    assert left(told) == [3, 9, 5, 1]


@pytest.mark.parametrize("written", [digest(2), f"sha256:{digest(2)}"])
def test_what_a_container_uses_stays(written: str) -> None:
    """Podman names the image of a container without its algorithm, docker with it."""
    podman = listing(image(1, "a:1"), image(2, "b:1"), used=(written,))
    docker = listing({"Id": f"sha256:{digest(2)}", "RepoTags": ["b:1"]}, used=(written,))

    assert left(podman) == [1]
    assert left(docker) == []


@pytest.mark.parametrize(
    ("tag", "named"),
    [
        ("docker.io/library/debian:12", "debian:12"),
        ("debian:latest", "docker.io/library/debian"),
        ("ghcr.io/acme/app:latest", "ghcr.io/acme/app"),
        ("registry:5000/app:latest", "registry:5000/app"),
        ("docker.io/acme/app:1", "acme/app:1"),
        ("ghcr.io/acme/images:1", "ghcr.io/acme/images:1"),
    ],
)
def test_what_a_sandbox_names_stays(tag: str, named: str) -> None:
    """A sandbox whose container is gone needs its image when it is repaired."""
    assert left(listing(image(1, tag), named=(named, "ghcr.io/other/images"))) == []
    assert left(listing(image(1, tag), named=("ghcr.io/other/app:1",))) == [1]


def test_what_a_sandbox_names_by_digest_stays() -> None:
    """A digest goes over a tag beside it, as the engines see it."""
    app = f"ghcr.io/acme/app@sha256:{digest(7)}"
    told = image(1, RepoDigests=[app])

    assert left(listing(told, named=(app.replace("@", ":1@"),))) == []
    assert left(listing(told, named=("ghcr.io/acme/app:1",))) == [1]


@pytest.mark.parametrize(
    "ours",
    [
        image(1, "localhost/sbx-0123456789ab_web:built"),
        image(1, "app:1", Config={"Labels": {"sandboxer.dev/uid": "x"}}),
        image(1, "app:1", Config={"Labels": {"sandboxer.dev/environment": "another"}}),
    ],
)
def test_what_is_part_of_a_sandbox_stays(ours: dict[str, Any]) -> None:
    """What was built for a sandbox, of whatever installation, goes with that sandbox only."""
    assert left(listing(ours)) == []


@pytest.mark.parametrize("name", ["-f", "a b", "$(id)", "a\nb:1", "`id`", "a;b", "", "x" * 600])
def test_what_has_a_strange_name_stays(name: str) -> None:
    """A name that no engine gives is never an argument of a command."""
    assert left(listing(image(1, name))) == []
    assert left(listing({"Id": name, "RepoTags": []})) == []


@pytest.mark.parametrize(
    ("name", "pattern", "meant"),
    [
        ("docker.io/library/debian:12", "debian", True),
        ("docker.io/library/debian:12", "debian:12", True),
        ("debian:12", "docker.io/library/debian:12", True),
        ("docker.io/library/debian:12", "debian:11", False),
        ("docker.io/library/debian-slim:12", "debian", False),
        ("ghcr.io/acme/app:1", "ghcr.io/acme/*", True),
        ("ghcr.io/acme/app:1", "ghcr.io/acme/app", True),
        ("ghcr.io/acme/app:1", "*/app:1", True),
        ("ghcr.io/other/app:1", "ghcr.io/acme/*", False),
        ("registry:5000/app:1", "registry:5000/app", True),
        (f"ghcr.io/acme/app@sha256:{digest(1)}", "ghcr.io/acme/app", True),
        ("anything/at:all", "*", True),
    ],
)
def test_keep_list_means_names_and_patterns(name: str, pattern: str, *, meant: bool) -> None:
    """An entry without a tag means every tag; Docker Hub's prefix may be left out on either side."""
    assert matches(name, pattern) is meant
    assert left(listing(image(1, name)), pattern) == ([] if meant else [1])


def test_name_is_kept_whole() -> None:
    """A port of a registry is no tag."""
    assert canonical("registry:5000/app") == "registry:5000/app:latest"


@given(st.text(max_size=200))
def test_garbage_removes_nothing(text: str) -> None:
    """What is no listing is an error, never an empty list of what is used."""
    with pytest.raises(ValueError, match=r".+"):
        removable(text)


@pytest.mark.parametrize(
    "images", ["{}", "null", "[1]", '[{"Id": 5}]', '[{"RepoTags": []}]', "[", ""]
)
def test_half_an_answer_removes_nothing(images: str) -> None:
    """An answer of another shape is an error as a whole."""
    with pytest.raises(ValueError, match=r".+"):
        removable(f"used {digest(1)}\nimages\n{images}")


@pytest.mark.parametrize("line", ["used", "used x", "Welcome!", f"Hi used {digest(2)}"])
def test_line_that_is_not_understood_removes_nothing(line: str) -> None:
    """What a login shell says besides could hide an image that is used."""
    with pytest.raises(ValueError, match="not expected"):
        removable(f"{line}\n{listing(image(2, 'a:1'))}")


def test_container_without_an_image_is_no_objection() -> None:
    """A container may have a directory for its root; then there is nothing to say after `used`."""
    assert left(f"used \n{listing(image(2, 'a:1'))}") == [2]
