"""What is made of the answer about builds, whatever a provisioner wrote into its own directory."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.errors import TransientError
from sandboxer.extension import Observation
from sandboxer_extensions.local.observing import labels_text
from sandboxer_extensions.vm_packer.build_observing import SEPARATOR, read_builds

UID = "0f0e0d0c-0b0a-4908-8706-050403020100"
NAME = "sbx-0f0e0d0c0b0a"
LABELS = {
    "sandboxer.dev/uid": UID,
    "sandboxer.dev/environment": "here",
    "sandboxer.dev/extension": "ext.vm-packer",
    "sandboxer.dev/spec-hash": "0123456789abcdef",
}
MARKER = f'marker {NAME} {{"path":"/root/builds/{NAME}","labels":{labels_text(LABELS)}}}'
RUN = f'run {NAME} {{"pid":42,"start":777,"boot":"b1","labels":{labels_text(LABELS)}}}'
ALIVE = f"stat {NAME} S 777"
PATH = "/root/images/image-sbx/1/output/a b.img"
ARTIFACT = f"artifact {NAME} " + SEPARATOR.join(["file", "packer.file", "File", "a" * 64, "12", PATH])  # fmt: skip


def read(*lines: str, boot: str = "b1") -> list[Observation]:
    """Return the observations of an answer with these lines."""
    text = "\n".join([f"boot - {boot}", *lines, "end - -", ""])
    seen = read_builds(text.encode(), environment="here", extension="ext.vm-packer")
    return [one.observation for one in seen]


@pytest.mark.parametrize(
    ("lines", "boot", "state"),
    [
        pytest.param([MARKER], "b1", "Incomplete", id="not started"),
        pytest.param([MARKER, RUN, ALIVE], "b1", "Starting", id="under way"),
        pytest.param([MARKER, RUN], "b1", "Stopped", id="killed"),
        pytest.param([MARKER, RUN, ALIVE], "b2", "Stopped", id="the machine was restarted"),
        pytest.param([MARKER, RUN, f"stat {NAME} S 778"], "b1", "Stopped", id="the pid is another's"),
        pytest.param([MARKER, RUN, f"stat {NAME} Z 777"], "b1", "Stopped", id="a zombie"),
        pytest.param([MARKER, RUN, f"exit {NAME} 0", ARTIFACT], "b1", "Running", id="made"),
        pytest.param([MARKER, RUN, ALIVE, f"exit {NAME} 0"], "b1", "Running", id="made just now"),
        pytest.param([MARKER, RUN, f"exit {NAME} 1"], "b1", "Starting", id="failed"),
        pytest.param([MARKER, RUN, f"exit {NAME} "], "b1", "Starting", id="an end cut off"),
        pytest.param(
            [MARKER, RUN, f"exit {NAME} 0", ARTIFACT, f"gone {NAME} {PATH}"], "b1", "Incomplete",
            id="the image is gone",
        ),
        pytest.param([MARKER.replace(NAME, f".sbx-new-{NAME}.7", 1)], "b1", "Incomplete", id="being made"),
    ],
)  # fmt: skip
def test_states(lines: list[str], boot: str, state: str) -> None:
    """A build that ended is judged by how it ended, one that did not by its process."""
    assert [one.state for one in read(*lines, boot=boot)] == [state]


def test_an_artifact_is_a_resource_with_its_digest() -> None:
    """Path, builder, id, size and checksum are shown; a record that is not whole is left out."""
    broken = ARTIFACT.replace("a" * 64, "a" * 63)
    _, shown = read(MARKER, RUN, f"exit {NAME} 0", ARTIFACT, broken, f"artifact {NAME} x")[0].resources  # fmt: skip

    assert (shown.kind, shown.name, shown.state) == ("artifact", PATH, "present")
    assert shown.digest == f"sha256:{'a' * 64}"
    assert shown.detail == "builder packer.file, id File, 12 bytes"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(MARKER.replace(NAME, "sbx-ffffffffffff", 1), id="a marker copied elsewhere"),
        pytest.param(f"marker {NAME} {json.dumps({'labels': [1]})}", id="no labels"),
        pytest.param(f"marker {NAME} {'[' * 10_000}", id="nested deeply"),
        pytest.param(MARKER.replace("here", "elsewhere"), id="another installation's"),
        pytest.param(MARKER.replace("ext.vm-packer", "ext.local"), id="another extension's"),
    ],
)
def test_what_is_not_ours_is_left_out(line: str) -> None:
    """A line that is not exactly what we write harms nobody."""
    assert read(line) == []


@pytest.mark.parametrize("cut", [b"", b"boot - b1\n", b"boot - b1\nend - -", b"end - -\n"])
def test_a_cut_answer_is_an_error(cut: bytes) -> None:
    """What is not listed would be taken for gone."""
    with pytest.raises(TransientError):
        read_builds(cut, environment="here", extension="ext.vm-packer")


@given(st.lists(st.text(max_size=100)))
def test_no_line_harms_another_build(lines: list[str]) -> None:
    """Whatever stands between, a whole build is seen as it is."""
    foreign = [line for text in lines for line in text.split("\n") if NAME not in line]

    assert [one.uid for one in read(*foreign, MARKER, RUN, ALIVE)] == [UID]
