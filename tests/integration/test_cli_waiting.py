"""`wait`, and how waiting ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, installed


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation without a controller; every test has sandboxes of its own."""
    with installed(tmp_path_factory.mktemp("waiting")) as installation:
        yield installation


def test_waiting_ends_with_timeout_and_the_reason(here: Installation) -> None:
    """When the time is over, the exit code is 6 and the message says how far it came."""
    manifest = yaml.safe_load(HELLO)
    manifest["spec"]["placement"] = {"hostSelector": {"matchLabels": {"no": "such-host"}}}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    done = here.run("wait", "sbx/hello", "--for=condition=Ready", "--timeout", "10s")

    assert done.returncode == 6
    assert "sandbox/hello is Pending" in done.stderr
    assert ".." not in done.stderr
    assert "no controller runs" in done.stderr


@pytest.mark.exhaustive
def test_waiting_in_vain_for_something_else_names_what_is_ready(here: Installation) -> None:
    """A sandbox that is Ready is named too when another condition was waited for."""
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    done = here.run("wait", "sbx/box", "--for=condition=Suspended", "--timeout", "2s")

    assert done.returncode == 6
    assert "sandbox/box is Ready." in done.stderr


def test_wait_for_values_and_deletion(here: Installation) -> None:
    """Wait takes a JSONPath value, and an absent object is already deleted."""
    here.ok("create", "--timeout", "60s", "--name", "short", "--profile", "profile.local")

    here.ok("wait", "sbx/short", "--for=jsonpath={.status.phase}=Ready")
    here.ok("wait", "sbx/never-was", "--for=delete")
    here.ok("delete", "sbx/short", "--no-wait")
    here.ok("wait", "sbx/short", "--for=delete")

    assert "short" not in here.sandboxes()
