"""Reading what `observe.sh` printed."""

from __future__ import annotations

import json

import pytest

from sandboxer.errors import TransientError
from sandboxer.extension import Observation
from sandboxer_extensions.vm_packer.observing import read_observations

UID = "0190c9c2-1111-7000-8000-000000000001"
LABELS = {
    "sandboxer.dev/uid": UID,
    "sandboxer.dev/environment": "env",
    "sandboxer.dev/extension": "ext.vm-packer",
    "sandboxer.dev/spec-hash": "abc",
}
PLACE = "/build/sbx-0190c9c21111"


def marker(path: str = PLACE, said: str = PLACE, **labels: str) -> str:
    """Return the line of a marker."""
    more = {f"sandboxer.dev/{key}": value for key, value in labels.items()}
    return f"marker {path} {json.dumps({'path': said, 'labels': LABELS | more})}\n"


def read(text: str) -> tuple[Observation, ...]:
    """Read an answer that has its end."""
    return read_observations(f"{text}end\n".encode(), environment="env", extension="ext.vm-packer")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        pytest.param(f"{marker()}work {PLACE}\nsynced {PLACE} abc\n", "Running", id="whole"),
        pytest.param(
            f"{marker()}work {PLACE}\nsynced {PLACE} old\n", "Incomplete", id="other copy"
        ),
        pytest.param(f"{marker()}work {PLACE}\nsynced {PLACE} \n", "Incomplete", id="not copied"),
        pytest.param(f"{marker()}synced {PLACE} abc\n", "Incomplete", id="no work directory"),
        pytest.param(marker("/build/.sbx-new-sbx-0190c9c21111.7"), "Incomplete", id="being born"),
    ],
)
def test_state(text: str, state: str) -> None:
    """A workspace runs when it is whole and its copy is the one that is wanted."""
    (seen,) = read(text)

    assert (seen.uid, seen.state, seen.spec_hash) == (UID, state, "abc")
    assert (seen.drift == ()) == (state == "Running")
    assert [one.path for one in seen.drift if one.data_lost] in ([], ["workspace/work"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(marker(environment="other"), id="another installation"),
        pytest.param(marker(extension="ext.local"), id="another extension"),
        pytest.param(marker("/build/copy"), id="copied elsewhere"),
        pytest.param(f"marker {PLACE} {'[' * 10000}\n", id="deep"),
        pytest.param(f"marker {PLACE} 1\n", id="no object"),
        pytest.param(marker(owner="a\nb"), id="no label value"),
    ],
)
def test_not_ours(text: str) -> None:
    """What we did not write, or not for there, is nobody's."""
    assert read(text) == ()


def test_finished_counts_before_unfinished() -> None:
    """A workspace that exists hides what an interrupted birth or removal left beside it."""
    half = marker("/build/.sbx-gone-sbx-0190c9c21111.7")

    (seen,) = read(f"{half}{marker()}work {PLACE}\nsynced {PLACE} abc\n")

    assert (seen.state, seen.resources[0].name) == ("Running", PLACE)


@pytest.mark.parametrize("output", [b"", marker().encode(), b"end", b"en\n"])
def test_answer_that_is_cut_off(output: bytes) -> None:
    """Half an answer is an error: what it does not list would be taken for gone."""
    with pytest.raises(TransientError):
        read_observations(output, environment="env", extension="ext.vm-packer")
