"""The spec directory as a person and git use it: what is committed runs, what is broken harms nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, is_ready

pytestmark = pytest.mark.timeout(300)

_TIMEOUT_S = 60.0


@pytest.fixture
def running(installation: Installation) -> Installation:
    """An installation whose spec directory is a git checkout, with two sandboxes Ready."""
    git(installation.specs, "init", "-q")
    (installation.specs / "one.yaml").write_text(manifest("one"))
    (installation.specs / "two.yaml").write_text(manifest("two"))
    commit(installation.specs, "Two sandboxes")
    installation.start()
    installation.wait_until(
        "both Ready", lambda: ready(installation, "one", "two"), timeout_s=_TIMEOUT_S
    )
    return installation


def manifest(name: str, value: str = "1") -> str:
    """Return a Sandbox on this machine with one variable that tells its versions apart."""
    return (
        "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\n"
        f"metadata:\n  name: {name}\n"
        "spec:\n  profile: profile.sandbox-canary\n"
        f'  env:\n    VERSION: "{value}"\n'
    )


def git(directory: Path, *arguments: str) -> None:
    """Run git in the checkout, independent of the user's own configuration."""
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def commit(directory: Path, subject: str) -> None:
    """Commit everything as it is."""
    git(directory, "add", "--all")
    git(directory, "commit", "-q", "-m", subject)


def ready(installation: Installation, *names: str) -> bool:
    """Tell whether exactly these sandboxes are there and Ready."""
    found = installation.sandboxes()
    return set(found) == set(names) and all(map(is_ready, found.values()))


def identities(installation: Installation) -> dict[str, tuple[str, int]]:
    """Return uid and generation of each sandbox: both unchanged means nothing was touched."""
    return {
        name: (document["metadata"]["uid"], document["metadata"]["generation"])
        for name, document in installation.sandboxes().items()
    }


def told(installation: Installation, *texts: str) -> bool:
    """Tell whether the controller's log has one line with all of these texts."""
    lines = installation.log.read_text(errors="replace").splitlines()
    return any(all(text in line for text in texts) for line in lines)


def test_a_commit_appears_an_edit_changes_a_removal_removes(running: Installation) -> None:
    """What git has is what runs: a new file, an edit and a removal are each followed."""
    (running.specs / "three.yaml").write_text(manifest("three"))
    commit(running.specs, "A third")
    running.wait_until(
        "the third Ready", lambda: ready(running, "one", "two", "three"), timeout_s=_TIMEOUT_S
    )

    (running.specs / "three.yaml").write_text(manifest("three", value="2"))
    commit(running.specs, "Another version of the third")
    running.wait_until(
        "the edit in the sandbox",
        lambda: running.run("exec", "three", "--", "sh", "-c", "echo $VERSION").stdout == "2\n",
        timeout_s=_TIMEOUT_S,
    )

    git(running.specs, "rm", "-q", "three.yaml")
    commit(running.specs, "No third")
    running.wait_until("the third gone", lambda: ready(running, "one", "two"), timeout_s=_TIMEOUT_S)


def test_broken_yaml_harms_nothing_and_is_told_with_file_and_line(running: Installation) -> None:
    """A file that cannot be parsed leaves what it declared running; the log says where it breaks."""
    before = identities(running)

    (running.specs / "one.yaml").write_text(manifest("one") + "  env: [\n")
    running.wait_until("told", lambda: told(running, "one.yaml:9"), timeout_s=_TIMEOUT_S)

    assert identities(running) == before
    assert ready(running, "one", "two")
    refused = running.run("validate", "-f", str(running.specs))
    assert refused.returncode == 3
    assert "one.yaml:9" in refused.stderr


def test_a_broken_file_holds_everything_until_it_is_repaired(running: Installation) -> None:
    """A directory is taken whole or not at all: while one file is broken, no other is followed."""
    before = identities(running)
    (running.specs / "one.yaml").write_text("kind: [\n")
    running.wait_until("told", lambda: told(running, "one.yaml:"), timeout_s=_TIMEOUT_S)
    (running.specs / "three.yaml").write_text(manifest("three"))
    # The look that saw the third file is over when it has told of the next mistake.
    (running.specs / "zero.yaml").write_text("kind: [\n")
    running.wait_until("told again", lambda: told(running, "zero.yaml:"), timeout_s=_TIMEOUT_S)
    assert identities(running) == before

    (running.specs / "one.yaml").write_text(manifest("one"))
    (running.specs / "zero.yaml").unlink()
    running.wait_until(
        "the third Ready", lambda: ready(running, "one", "two", "three"), timeout_s=_TIMEOUT_S
    )


def test_a_half_written_file_harms_nothing(running: Installation) -> None:
    """A file caught in the middle of being written is not believed; the whole one is."""
    before = identities(running)
    whole = manifest("two", value="2")

    (running.specs / "two.yaml").write_text(whole[: whole.index("spec:") - 12])
    running.wait_until("told", lambda: told(running, "two.yaml"), timeout_s=_TIMEOUT_S)
    assert identities(running) == before

    (running.specs / "two.yaml").write_text(whole)
    running.wait_until(
        "the new version Ready",
        lambda: ready(running, "one", "two") and identities(running) != before,
        timeout_s=_TIMEOUT_S,
    )
    assert identities(running)["two"][0] == before["two"][0]


def test_a_directory_renamed_away_removes_nothing(running: Installation) -> None:
    """A missing directory is not an empty wish: all keeps running, and it says what is missing."""
    before = identities(running)

    away = running.specs.rename(running.specs.with_name("away"))
    running.wait_until("told", lambda: told(running, str(running.specs)), timeout_s=_TIMEOUT_S)
    assert identities(running) == before

    away.rename(running.specs)
    (running.specs / "three.yaml").write_text(manifest("three"))
    running.wait_until(
        "followed again", lambda: ready(running, "one", "two", "three"), timeout_s=_TIMEOUT_S
    )
    after = identities(running)
    assert {name: after[name] for name in before} == before


def test_a_renamed_file_changes_nothing(running: Installation) -> None:
    """Moving a document to another file is no deletion: the sandbox keeps its identity."""
    before = identities(running)

    (running.specs / "one.yaml").rename(running.specs / "uno.yaml")
    (running.specs / "three.yaml").write_text(manifest("three"))
    running.wait_until(
        "the third Ready", lambda: ready(running, "one", "two", "three"), timeout_s=_TIMEOUT_S
    )

    after = identities(running)
    assert {name: after[name] for name in before} == before
