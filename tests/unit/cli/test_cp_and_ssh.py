"""What `cp` takes for a path, and the command line `ssh` makes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandboxer.cli.cp import Place, place
from sandboxer.cli.ssh import Target, ssh_command
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.host import Host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJKoJ6grFa9vra/sZtUKD9OZG4q+D/dOB5EJAmz2+lS"


@pytest.mark.parametrize(
    ("text", "sandbox", "path", "name"),
    [
        pytest.param("box:dir/file", "box", "dir/file", "file", id="inside"),
        pytest.param("sbx/box:/etc", "sbx/box", "/etc", "etc", id="with-kind"),
        pytest.param("box:", "box", ".", "", id="work-directory"),
        pytest.param("box:dir/", "box", "dir/", "dir", id="slash"),
        pytest.param("box:dir/.", "box", "dir/.", "", id="content"),
        pytest.param("box:dir/..", "box", "dir/..", "", id="parent"),
        pytest.param("box:/", "box", "/", "", id="root"),
        pytest.param("box:a:b", "box", "a:b", "a:b", id="colon-inside"),
        pytest.param("box:-rf", "box", "./-rf", "-rf", id="like-an-option"),
        pytest.param("file", "", "file", "file", id="here"),
        pytest.param("./a:b", "", "./a:b", "a:b", id="colon-here"),
        pytest.param("/a:b", "", "/a:b", "a:b", id="absolute"),
        pytest.param(":b", "", ":b", ":b", id="no-name"),
        pytest.param("-", "", "-", "-", id="stream"),
        pytest.param("", "", "", "", id="nothing"),
    ],
)
def test_places(text: str, sandbox: str, path: str, name: str) -> None:
    """A colon makes it a sandbox's, unless it is plainly a path."""
    found = place(text)

    assert found == Place(sandbox, path)
    assert found.name == name


def command(spec: dict[str, Any], *words: str, terminal: bool = False) -> list[str]:
    host = Host.parse(
        {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "h1"}, "spec": spec}
    )  # fmt: skip
    return ssh_command(Target(host, KEY, "/srv/a b"), Path("/k"), words, terminal=terminal)


def test_host_with_an_address() -> None:
    """Only the pinned key counts, and nothing of the user's own configuration."""
    argv = command({"address": "10.0.0.1", "port": 2222, "user": "me", "identityFile": "~/.ssh/k"})

    assert argv[-2:] == ["10.0.0.1", "cd '/srv/a b' && exec \"${SHELL:-/bin/sh}\" -l"]
    assert argv[argv.index("-F") : argv.index("--")][:8] == [
        "-F", "none", "-p", "2222", "-l", "me", "-i", "~/.ssh/k",
    ]  # fmt: skip
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/k", "HostKeyAlias=h1"} <= set(argv)
    assert "-t" not in argv


def test_alias_and_tunnel() -> None:
    """An alias is the configuration's; a tunnel goes over its address and its jump hosts."""
    direct = command({"sshAlias": "vm"}, terminal=True)
    through = command({"sshAlias": "vm", "tunnelPort": 12221})

    assert direct[:2] == ["ssh", "-t"]
    assert direct[-3:-1] == through[-3:-1] == ["--", "vm"]
    assert not {"Port=12221", "ProxyJump=none"} & set(direct)
    assert {"HostName=127.0.0.1", "Port=12221", "ProxyJump=none", "ProxyCommand=none"} <= set(
        through
    )


# What would open this machine to the other one, run something, or go another way.
GENEROUS = """
Host vm
  ForwardAgent yes
  ForwardX11 yes
  LocalForward 8080 localhost:80
  RemoteForward 8081 localhost:80
  Tunnel yes
  RemoteCommand uptime
  PermitLocalCommand yes
  RequestTTY force
  ControlMaster auto
  ControlPath /tmp/%n
"""


@pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh")
def test_what_an_alias_asks_for_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an entry only the way counts, in ssh's own reading of it."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(GENEROUS)
    monkeypatch.setenv("HOME", str(tmp_path))
    ssh, *options = command({"sshAlias": "vm"})

    done = subprocess.run([ssh, "-G", *options], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    taken = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert not {"remotecommand", "controlpath"} & set(taken)
    assert taken["clearallforwardings"] == "yes"
    off = [
        "forwardagent",
        "forwardx11",
        "tunnel",
        "permitlocalcommand",
        "requesttty",
        "controlmaster",
    ]
    assert {taken[name] for name in off} <= {"no", "false"}


def test_words_stay_words() -> None:
    """The shell of the machine sees every argument as it was typed."""
    words = ["printf", "%s", "a  b", "$(id)", "'", "-n", ""]

    line = command({"address": "h"}, *words)[-1]

    assert shlex.split(line.partition(" && exec ")[2]) == words
    with pytest.raises(InvalidSpecError):
        command({"address": "h"}, "a\0b")
