"""The same verbs in the three ways a command finds the API, and what is said when it finds none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, Way, installed, remote_environment, started


@pytest.fixture(scope="module", params=["alone", "socket", "remote"])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture(scope="module")
def here(way: Way, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp(way), way) as installation:
        yield installation


def test_apply_wait_exec_delete(here: Installation, way: Way) -> None:
    """The main loop by hand: apply, wait, look, run something inside, delete, nothing left."""
    applied = here.run("apply", "-f", "-", stdin=HELLO)
    assert applied.stdout == "sandbox/hello created\n"
    assert ("no controller is running" in applied.stderr) == (way == "alone")

    assert here.ok("wait", "sbx/hello", "--for=condition=Ready") == "sandbox/hello condition met\n"
    assert here.ok("apply", "-f", "-", stdin=HELLO) == "sandbox/hello unchanged\n"
    assert here.ok("exec", "hello", "--", "printenv", "GREETING") == "hello there\n"
    assert here.run("exec", "hello", "--", "sh", "-c", "exit 7").returncode == 7
    assert here.ok("logs", "hello") == ""
    assert "hello" in here.ok("get", "sandboxes", "-l", "app=demo", "-o", "wide")
    assert "Provisioned" in here.ok("describe", "sandbox", "hello")
    assert "sandbox/hello" in here.ok("events", "--for", "sandbox/hello")
    assert "in the store" in here.ok("inspect", "host", "local")
    assert here.ok("delete", "sandbox", "hello") == "sandbox/hello deleted\n"

    assert here.sandboxes() == {}
    assert [p.name for p in (here.directory / "work").iterdir() if p.name.startswith("sbx-")] == []


def test_create_checks_before_anything_is_stored(here: Installation) -> None:
    """What a profile refuses is an error of create, though the API itself would only remark it."""
    refused = here.run("create", "--profile", "profile.local", "--input", "comand=x")

    assert (refused.returncode, "spec.inputs.comand" in refused.stderr) == (3, True), refused.stderr
    assert 'Did you mean "command"?' in refused.stderr
    assert here.sandboxes() == {}


def test_doctor_says_which_api_it_talks_to(here: Installation, way: Way) -> None:
    """A person who has several installations sees which one answers, and as whom."""
    checked = here.ok("doctor")

    found = {
        "alone": "API: served by this command to itself",
        "socket": "sandboxer.sock, sandboxer-0.1.0, as local",
        "remote": "API: https://127.0.0.1:",
    }
    assert found[way] in checked
    assert ("as admin" in checked) == (way == "remote")
    assert "FAIL" not in checked


def test_absent_object_is_the_same_error_everywhere(here: Installation) -> None:
    """A missing object is the same error whoever answers."""
    missed = here.run("get", "sbx/nope")

    assert missed.returncode == 4
    assert 'There is no sandbox called "nope"' in missed.stderr


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("refusing"), "remote") as installation:
        yield installation


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        pytest.param({"SANDBOXER_TOKEN": "wrong"}, 8, "SANDBOXER_TOKEN", id="wrong-token"),
        pytest.param({"SANDBOXER_TOKEN": ""}, 8, "SANDBOXER_TOKEN", id="no-token"),
        pytest.param({"SANDBOXER_CA_FILE": ""}, 8, "Set SANDBOXER_CA_FILE", id="unknown-authority"),
        pytest.param({"SANDBOXER_CA_FILE": "/no/such"}, 8, "/no/such", id="no-ca-file"),
        pytest.param({"SANDBOXER_SERVER": "https://127.0.0.1:1"}, 7, "https://127.0.0.1:1", id="nobody-there"),
        pytest.param({"SANDBOXER_SERVER": "https://nowhere.invalid"}, 7, "nowhere.invalid", id="no-such-host"),
        pytest.param({"SANDBOXER_SERVER": "http://example.org"}, 3, "in clear", id="token-in-clear"),
        pytest.param({"SANDBOXER_SERVER": "127.0.0.1:7443"}, 3, "no URL", id="no-url"),
        pytest.param({"SANDBOXER_SERVER": "https://user@127.0.0.1"}, 3, "no URL", id="user-in-url"),
    ],
)  # fmt: skip
def test_server_that_refuses_or_is_not_there(
    remote: Installation, variables: dict[str, str], code: int, said: str
) -> None:
    """Every way not to reach a server has its exit code and names what to change."""
    done = remote.run("get", "sandboxes", **variables)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_viewer_sees_and_changes_nothing(remote: Installation) -> None:
    """A viewer's token reads; what it may not do is refused by name, with a remedy."""
    data = str(remote.directory / "data")
    local = {"SANDBOXER_SERVER": "", "SANDBOXER_DATA_DIR": data}
    made = remote.run("token", "create", "bob", "--role", "viewer", **local)
    token = made.stdout.split()[-1]

    seen = remote.run("get", "hosts", SANDBOXER_TOKEN=token)
    refused = remote.run("apply", "-f", "-", stdin=HELLO, SANDBOXER_TOKEN=token)

    assert (seen.returncode, "local" in seen.stdout) == (0, True), seen.stderr
    assert refused.returncode == 8
    assert "bob" in refused.stderr
    assert "--role" in refused.stderr


def test_wait_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    """A wait over TLS says that its server is gone, and goes on when there is one again."""
    with installed(tmp_path, "socket") as here:
        stuck = yaml.safe_load(HELLO)
        stuck["spec"]["placement"] = {"hostSelector": {"matchLabels": {"no": "such-host"}}}
        here.ok("apply", "-f", "-", stdin=yaml.safe_dump(stuck))
        variables = remote_environment(here)
        waiting = subprocess.Popen(
            [sys.executable, "-m", "sandboxer", "wait", "sbx/hello", "--for=condition=Ready"],
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert "Pending" in waiting.stderr.readline()

        here.kill()
        while "does not answer" not in (line := waiting.stderr.readline()):
            assert line, "the wait ended with its server"
        started(here, variables["SANDBOXER_SERVER"].removeprefix("https://"))
        here.ok("apply", "-f", "-", stdin=HELLO)
        _, said = waiting.communicate(timeout=90)

    assert waiting.returncode == 0, said
    assert "no controller" not in said
