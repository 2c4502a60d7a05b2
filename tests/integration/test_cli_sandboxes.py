"""`create`, `exec`, `recreate`, `destroy` and what a user needs for them: no controller, no rights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, is_ready
from tests.integration.cli_lab import installed


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    with installed(tmp_path) as installation:
        yield installation


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One controller for tests that only need sandboxes of their own."""
    with installed(tmp_path_factory.mktemp("served"), "socket") as installation:
        yield installation


def test_one_command_on_a_fresh_machine(here: Installation) -> None:
    """`create` without arguments and without a controller ends with a Ready canary and measures."""
    done = here.run("create", "--timeout", "60s")

    assert done.returncode == 0, done.stderr
    assert "no controller is running" in done.stderr
    assert done.stderr.count("no controller is running") == 1
    assert {"id", "host", "ready in", "round trip", "isolation"} <= {
        line[3:].split("   ")[0] for line in done.stdout.splitlines()[1:]
    }
    (document,) = here.sandboxes().values()
    assert is_ready(document)


def test_exec_passes_streams_arguments_and_exit_code(served: Installation) -> None:
    """Exec is transparent: bytes in, bytes out, arguments as typed, the command's own exit code."""
    served.ok("create", "--timeout", "60s", "--name", "pipes", "--profile", "profile.local")

    odd = served.run("exec", "pipes", "--", "printf", "%s|", "a  b", "$(id)", "-n", "", "'q\"")
    piped = served.run("exec", "-i", "pipes", "--", "cat", stdin="line\n" * 1000)
    failed = served.run("exec", "pipes", "--", "sh", "-c", "echo oops >&2; exit 7")
    closed = served.run("exec", "pipes", "--", "cat", stdin="not passed on")

    assert odd.stdout == "a  b|$(id)|-n||'q\"|"
    assert piped.stdout == "line\n" * 1000
    assert (failed.returncode, failed.stderr) == (7, "oops\n")
    assert closed.stdout == ""


def test_id_may_be_a_uid_prefix(served: Installation) -> None:
    """Destroy and recreate take the ID that create prints; recreate gives a new one."""
    printed = served.ok(
        "create", "--timeout", "60s", "--name", "byid", "--profile", "profile.local"
    )
    first = next(line.split()[1] for line in printed.splitlines() if line.startswith("   id"))

    served.ok("recreate", first)
    second = served.sandboxes()["byid"]["metadata"]["uid"]
    served.ok("destroy", second[:8])

    assert second.replace("-", "")[:12] != first
    assert "byid" not in served.sandboxes()


@pytest.mark.exhaustive
def test_recreate_that_is_cut_short_keeps_the_manifest(here: Installation) -> None:
    """Between the old sandbox and the new one its manifest lies in a file that apply takes."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    cut = here.run("recreate", "box", "--timeout", "1ms")
    path = cut.stderr.rsplit("apply -f ", 1)[1].split()[0]
    here.ok("wait", "sandbox/box", "--for=delete", "--timeout", "60s")
    here.ok("apply", "-f", path, "--wait", "--timeout", "60s")

    assert cut.returncode == 6
    assert here.sandboxes()["box"]["spec"]["profile"] == "profile.local"


def test_same_name_twice_is_a_conflict(served: Installation) -> None:
    """Create never overwrites."""
    served.ok(
        "create", "--timeout", "60s", "--name", "twice", "--profile", "profile.local", "--no-wait"
    )

    assert (
        served.run(
            "create", "--timeout", "60s", "--name", "twice", "--profile", "profile.local"
        ).returncode
        == 5
    )


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user"
)
def test_ordinary_user_needs_no_rights() -> None:
    """An ordinary user gets the same from one command: a Ready sandbox in the home directory."""
    # The capability only lets this user read a checkout and a Python that live below /root.
    as_user = [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        shutil.chown(home, 65534, 65534)
        environment = {"HOME": home, "PATH": os.environ["PATH"]}

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*as_user, sys.executable, "-m", "sandboxer", *arguments],
                env=environment, cwd=home, capture_output=True, text=True, check=False,
            )  # fmt: skip

        created = run("create", "--name", "mine", "--profile", "profile.local", "-o", "json")
        who = run("exec", "mine", "--", "id", "-u")
        gone = run("delete", "sbx/mine")

        assert created.returncode == 0, created.stderr
        assert is_ready(json.loads(created.stdout))
        assert who.returncode == 0, who.stderr
        assert gone.returncode == 0, gone.stderr
        assert Path(home, ".local/share/sandboxer/store.db").stat().st_mode & 0o777 == 0o600
