"""`get`, `inspect`, `doctor`, and what a user's mistakes look like."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, HOST_KEY, installed, local_host


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One controller for all that look."""
    with installed(tmp_path_factory.mktemp("looking"), "socket") as installation:
        yield installation


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without a controller, for tests that change nothing in it."""
    with installed(tmp_path_factory.mktemp("quiet")) as installation:
        yield installation


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        pytest.param(["get", "sbx/nope"], "", 4, "nope", id="not-found"),
        pytest.param(["create", "--profile", "profile.locl"], "", 4, 'Did you mean "profile.local"', id="profile"),
        pytest.param(["create", "--profile", "local"], "", 4, 'Did you mean "profile.local"', id="short-profile"),
        pytest.param(["create", "--profile", "profile.local", "--input", "comand=x"], "", 3, "command", id="input"),
        pytest.param(["create", "--host", "nowhere"], "", 4, "nowhere", id="host"),
        pytest.param(["create", "--name", "Bad Name"], "", 3, "metadata.name", id="name"),
        pytest.param(["apply", "-f", "-"], "kind: Sandbox\nspec: [", 3, "-:3:1", id="syntax"),
        pytest.param(["apply", "-f", "-"], HELLO.replace("profile:", "profil:"), 3, "profile", id="field"),
        pytest.param(["apply", "-f", "/does/not/exist"], "", 4, "/does/not/exist", id="file"),
        pytest.param(["apply", "-f", "https://example.org/x"], "", 2, "URL", id="url"),
        pytest.param(["wait", "sbx/nope", "--for=condition=Ready"], "", 4, "nope", id="wait-absent"),
        pytest.param(["get", "sbx", "-o", "xml"], "", 2, "xml", id="format"),
        pytest.param(["get", "sbx", "-o", "jsonpath={.a"], "", 2, "brace", id="template"),
        pytest.param(["delete", "sandboxes"], "", 2, "--all", id="delete-all-by-accident"),
        pytest.param(["exec", "nope", "--", "id"], "", 4, "nope", id="exec-absent"),
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_sentence(
    quiet: Installation, arguments: list[str], stdin: str, code: int, said: str
) -> None:
    """A user's mistake has its exit code, names what was wrong, and shows no traceback."""
    done = quiet.run(*arguments, stdin=stdin)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_namespaces_are_apart(here: Installation) -> None:
    """-n and SANDBOXER_NAMESPACE choose the namespace, -A shows all, and a miss says where."""
    here.ok("apply", "-n", "team", "-f", "-", stdin=HELLO)

    assert here.ok("get", "sbx", "-n", "empty", "-o", "name") == ""
    assert "team" in here.ok("get", "sbx", "-A")
    assert here.ok("get", "sbx", "-n", "team", "-o", "name") == "sandbox/hello\n"
    assert "add -n team" in here.run("get", "sbx/hello").stderr
    here.ok("delete", "-n", "team", "sandboxes", "--all")


def test_inspect_and_doctor_look_at_the_machine(here: Installation) -> None:
    """Inspect shows what is really there, by sandbox; doctor finds a healthy installation."""
    here.ok("create", "--timeout", "60s", "--name", "seen", "--profile", "profile.local")

    inspected = here.ok("inspect", "host", "local")
    checked = here.ok("doctor")

    assert "default/seen" in inspected
    assert "in the store" in inspected
    assert "FAIL" not in checked


def test_inspect_tells_a_dead_host_from_one_that_needs_a_person(here: Installation) -> None:
    """A host without a listener is code 7; one whose key file is missing, or whose pinned key is none, is 8."""
    host = yaml.safe_load(local_host(here.directory))
    host["metadata"]["name"] = "h1"
    host["spec"] = {"address": "127.0.0.1", "port": 1, "hostKey": HOST_KEY}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(host))
    dead = here.run("inspect", "host", "h1")
    host["spec"]["identityFile"] = "/no/such/key"
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(host))
    keyless = here.run("inspect", "host", "h1")
    host["spec"] = {"address": "127.0.0.1", "port": 1, "hostKey": f"ssh-ed25519 {'A' * 68}"}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(host))
    cut_short = here.run("inspect", "host", "h1")
    here.ok("delete", "host", "h1")

    assert (dead.returncode, "does not answer" in dead.stdout) == (7, True), dead.stderr
    assert (keyless.returncode, "cannot be used" in keyless.stdout) == (8, True), keyless.stderr
    assert "identityFile" in keyless.stderr
    assert (cut_short.returncode, "spec.hostKey" in cut_short.stderr) == (8, True), cut_short.stderr


def test_watch_prints_changes(here: Installation) -> None:
    """Get -w goes on printing one line per change."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "get", "sbx", "-n", "watching", "-w", "-o", "name"],
        env=os.environ | {"SANDBOXER_DATA_DIR": str(here.directory / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        here.ok("create", "-n", "watching", "--name", "first", "--profile", "profile.local")
        assert watching.stdout.readline() == "sandbox/first\n"
    finally:
        here.ok("delete", "-n", "watching", "sandboxes", "--all")
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=60)

    assert watching.returncode == 130
    assert "Traceback" not in said


def test_closed_pipe_is_no_error(here: Installation) -> None:
    """`sandboxer get | head` ends quietly."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m sandboxer get all -o yaml | head -n 1"],
        env=os.environ | {"SANDBOXER_DATA_DIR": str(here.directory / "data")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "apiVersion: v1\n"
    assert done.stderr == ""
