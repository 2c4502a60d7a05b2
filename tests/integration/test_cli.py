"""The `sandboxer` process with a real store and real processes of ext.local."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation, is_ready

HELLO = """
apiVersion: sandboxer.dev/v1alpha1
kind: Sandbox
metadata:
  name: hello
  labels: {app: demo}
spec:
  profile: profile.local
  env: {GREETING: "hello there"}
"""


# A well-formed key that no host has.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJKoJ6grFa9vra/sZtUKD9OZG4q+D/dOB5EJAmz2+lS"


def local_host(work_root: Path) -> str:
    """Return a Host `local` of a user's own, so that tests leave nothing in /var/lib."""
    spec = {"transport": "local", "workRoot": str(work_root), "probeInterval": "1s"}
    metadata = {"name": "local"}
    document = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host"}
    return yaml.safe_dump({**document, "metadata": metadata, "spec": spec})


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    """An installation whose sandboxes are taken away afterwards, whatever the test did."""
    installation = Installation(tmp_path)
    installation.ok("apply", "-f", "-", stdin=local_host(tmp_path / "work"))
    try:
        yield installation
    finally:
        installation.kill()
        installation.ok("delete", "sandboxes", "--all")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """One installation for tests that change nothing in it."""
    installation = Installation(tmp_path_factory.mktemp("quiet"))
    installation.ok("apply", "-f", "-", stdin=local_host(installation.directory / "work"))
    return installation


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


def test_apply_wait_exec_delete(here: Installation) -> None:
    """The main loop by hand: apply, wait, look, run something inside, delete, nothing left."""
    applied = here.run("apply", "-f", "-", stdin=HELLO)
    assert applied.stdout == "sandbox/hello created\n"
    assert "no controller is running" in applied.stderr

    assert here.ok("wait", "sbx/hello", "--for=condition=Ready") == "sandbox/hello condition met\n"
    assert here.ok("exec", "hello", "--", "printenv", "GREETING") == "hello there\n"
    assert "hello" in here.ok("get", "sandboxes", "-l", "app=demo", "-o", "wide")
    assert "Provisioned" in here.ok("describe", "sandbox", "hello")
    assert "sandbox/hello" in here.ok("events", "--for", "sandbox/hello")
    assert here.ok("delete", "sandbox", "hello") == "sandbox/hello deleted\n"

    assert here.sandboxes() == {}
    assert [p.name for p in (here.directory / "work").iterdir() if p.name.startswith("sbx-")] == []


def test_exec_passes_streams_arguments_and_exit_code(here: Installation) -> None:
    """Exec is transparent: bytes in, bytes out, arguments as typed, the command's own exit code."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    odd = here.run("exec", "box", "--", "printf", "%s|", "a  b", "$(id)", "-n", "", "'q\"")
    piped = here.run("exec", "-i", "box", "--", "cat", stdin="line\n" * 1000)
    failed = here.run("exec", "box", "--", "sh", "-c", "echo oops >&2; exit 7")
    closed = here.run("exec", "box", "--", "cat", stdin="not passed on")

    assert odd.stdout == "a  b|$(id)|-n||'q\"|"
    assert piped.stdout == "line\n" * 1000
    assert (failed.returncode, failed.stderr) == (7, "oops\n")
    assert closed.stdout == ""


def test_id_may_be_a_uid_prefix(here: Installation) -> None:
    """Destroy and recreate take the ID that create prints; recreate gives a new one."""
    printed = here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")
    first = next(line.split()[1] for line in printed.splitlines() if line.startswith("   id"))

    here.ok("recreate", first)
    second = here.sandboxes()["box"]["metadata"]["uid"]
    here.ok("destroy", second[:8])

    assert second.replace("-", "")[:12] != first
    assert here.sandboxes() == {}


def test_recreate_that_is_cut_short_keeps_the_manifest(here: Installation) -> None:
    """Between the old sandbox and the new one its manifest lies in a file that apply takes."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    cut = here.run("recreate", "box", "--timeout", "1ms")
    path = cut.stderr.rsplit("apply -f ", 1)[1].split()[0]
    here.ok("wait", "sandbox/box", "--for=delete", "--timeout", "60s")
    here.ok("apply", "-f", path, "--wait", "--timeout", "60s")

    assert cut.returncode == 6
    assert here.sandboxes()["box"]["spec"]["profile"] == "profile.local"


def test_diff_and_validate_answer_by_exit_code(here: Installation, tmp_path: Path) -> None:
    """Diff says 1 as long as something differs, 0 afterwards; validate touches nothing."""
    manifest = tmp_path / "hello.yaml"
    manifest.write_text(HELLO)

    assert here.ok("validate", "-f", str(manifest)) == "sandbox/hello valid\n"
    before = here.run("diff", "-f", str(manifest))
    here.ok("apply", "-f", str(manifest))
    after = here.run("diff", "-f", str(manifest))
    again = here.ok("apply", "-f", str(manifest))

    assert before.returncode == 1
    assert "+kind: Sandbox" in before.stdout
    assert (after.returncode, after.stdout) == (0, "")
    assert again == "sandbox/hello unchanged\n"


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


@pytest.mark.parametrize("verb", ["apply", "diff", "validate"])
def test_manifests_without_a_document_are_remarked(quiet: Installation, verb: str) -> None:
    """A file that is all commented out is no mistake, and nobody thinks that it was applied."""
    done = quiet.run(verb, "-f", "-", stdin="# kind: Sandbox\n")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "note: there is no document in -\n"


def test_same_name_twice_is_a_conflict(here: Installation) -> None:
    """Create never overwrites."""
    here.ok(
        "create", "--timeout", "60s", "--name", "box", "--profile", "profile.local", "--no-wait"
    )

    assert (
        here.run(
            "create", "--timeout", "60s", "--name", "box", "--profile", "profile.local"
        ).returncode
        == 5
    )


def test_waiting_ends_with_timeout_and_the_reason(here: Installation) -> None:
    """When the time is over, the exit code is 6 and the message says how far it came."""
    manifest = yaml.safe_load(HELLO)
    manifest["spec"]["placement"] = {"hostSelector": {"matchLabels": {"no": "such-host"}}}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    done = here.run("wait", "sbx/hello", "--for=condition=Ready", "--timeout", "3s")

    assert done.returncode == 6
    assert "sandbox/hello is Pending" in done.stderr
    assert ".." not in done.stderr
    assert "no controller runs" in done.stderr


def test_waiting_in_vain_for_something_else_names_what_is_ready(here: Installation) -> None:
    """A sandbox that is Ready is named too when another condition was waited for."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    done = here.run("wait", "sbx/box", "--for=condition=Suspended", "--timeout", "2s")

    assert done.returncode == 6
    assert "sandbox/box is Ready." in done.stderr


def test_wait_for_values_and_deletion(here: Installation) -> None:
    """Wait takes a JSONPath value, and an absent object is already deleted."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    here.ok("wait", "sbx/box", "--for=jsonpath={.status.phase}=Ready")
    here.ok("wait", "sbx/never-was", "--for=delete")
    here.ok("delete", "sbx/box", "--no-wait")
    here.ok("wait", "sbx/box", "--for=delete")

    assert here.sandboxes() == {}


def test_namespaces_are_apart(here: Installation) -> None:
    """-n and SANDBOXER_NAMESPACE choose the namespace, -A shows all, and a miss says where."""
    here.ok("apply", "-n", "team", "-f", "-", stdin=HELLO)

    assert here.ok("get", "sbx", "-o", "name") == ""
    assert "team" in here.ok("get", "sbx", "-A")
    assert here.ok("get", "sbx", "-n", "team", "-o", "name") == "sandbox/hello\n"
    assert "add -n team" in here.run("get", "sbx/hello").stderr
    here.ok("delete", "-n", "team", "sandboxes", "--all")


def test_inspect_and_doctor_look_at_the_machine(here: Installation) -> None:
    """Inspect shows what is really there, by sandbox; doctor finds a healthy installation."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    inspected = here.ok("inspect", "host", "local")
    checked = here.ok("doctor")

    assert "default/box" in inspected
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

    assert (dead.returncode, "does not answer" in dead.stdout) == (7, True), dead.stderr
    assert (keyless.returncode, "cannot be used" in keyless.stdout) == (8, True), keyless.stderr
    assert "identityFile" in keyless.stderr
    assert (cut_short.returncode, "spec.hostKey" in cut_short.stderr) == (8, True), cut_short.stderr


def test_watch_prints_changes(here: Installation) -> None:
    """Get -w goes on printing one line per change."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "get", "sbx", "-w", "-o", "name"],
        env=os.environ | {"SANDBOXER_DATA_DIR": str(here.directory / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")
        assert watching.stdout.readline() == "sandbox/box\n"
    finally:
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=20)

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
