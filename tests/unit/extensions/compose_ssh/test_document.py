"""Reading compose text: faithful to YAML 1.2, bounded against everything else."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.errors import InvalidSpecError
from sandboxer_extensions.compose_ssh.document import MAX_DEPTH, read_document


def read(text: str) -> dict[str, object]:
    """Read *text* as the extension does."""
    return read_document(text, origin="compose.yaml", field="spec.inputs.compose")


def test_scalars_follow_yaml_1_2() -> None:
    """`no` is a word, `22:22` is text, a leading zero is text, quotes force text."""
    value = read("{a: no, b: 22:22, c: 0777, d: '1', e: 1, f: 0.5, g: true, h: ~, i: 2001-13-01}")

    assert value == {
        "a": "no", "b": "22:22", "c": "0777", "d": "1", "e": 1, "f": 0.5, "g": True, "h": None,
        "i": "2001-13-01",
    }  # fmt: skip


def test_anchors_and_merges_are_resolved() -> None:
    """An own key goes over a merged one, and the first merged mapping over the second."""
    text = "x-a: &a {k: 1, l: 1}\nx-b: &b {l: 2, m: 2}\nc: {<<: [*a, *b], k: 3}\n"

    assert read(text)["c"] == {"k": 3, "l": 1, "m": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: 1\na: 2\n", "line 2: the key 'a' stands there twice", id="duplicate-key"),
        pytest.param("a: !!python/object:os.system {}", "tag", id="python-tag"),
        pytest.param("a: !reset null", "tag", id="reset"),
        pytest.param("a: !!bool zz", "tag", id="bool-crash"),
        pytest.param("a: !!int ''", "tag", id="int-crash"),
        pytest.param("a: &x [*x]", "no anchor", id="recursive-alias"),
        pytest.param("a: *nothing", "no anchor", id="unknown-alias"),
        pytest.param("a: 1\n---\nb: 2\n", "second document", id="two-documents"),
        pytest.param("[" * 1000, "deeper", id="deep"),
        pytest.param("{a: " * (MAX_DEPTH + 1), "deeper", id="deep-mapping"),
        pytest.param("", "not a mapping", id="empty"),
        pytest.param("- a", "not a mapping", id="list"),
        pytest.param("a: [", "is not YAML", id="syntax"),
        pytest.param("a: \x00", "is not YAML", id="nul"),
        pytest.param("? [a]\n: 1", "key", id="list-as-key"),
        pytest.param("x: &x {a: 1}\n*x : 1", "key", id="alias-as-key"),
        pytest.param("a: {<<: 1}", "merges mappings", id="merge-of-a-number"),
        pytest.param("a: " + "x" * 300_000, "larger than", id="large"),
    ],
)
def test_strange_text_is_refused_with_its_line(text: str, said: str) -> None:
    """What a compose file has no reason to hold is an error of the manifest."""
    with pytest.raises(InvalidSpecError, match=said) as caught:
        read(text)

    assert caught.value.field == "spec.inputs.compose"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
            id="billion-laughs",
        ),
        pytest.param(
            "a: &a {" + ",".join(f"k{n}: 1" for n in range(20_000)) + "}\n"
            "b: {<<: [" + ",".join(["*a"] * 20_000) + "]}",
            id="merge-bomb",
        ),
    ],
)
def test_bombs_are_refused_quickly(text: str) -> None:
    """Aliases that expand to more than a tool can hold cost neither time nor memory here."""
    started = time.process_time()

    with pytest.raises(InvalidSpecError, match=r"values once|aliases"):
        read(text)

    assert time.process_time() - started < 5


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_an_invalid_spec(text: str) -> None:
    """Nothing but InvalidSpecError comes out of hostile text."""
    try:
        value = read(text)
    except InvalidSpecError:
        return
    assert isinstance(value, dict)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    """A document written by PyYAML comes back equal."""
    assert read(yaml.safe_dump({"root": value}, allow_unicode=False)) == {"root": value}
