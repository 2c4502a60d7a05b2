"""Reading manifests: what is accepted, and that everything else is told with its place."""

from __future__ import annotations

import json
import time

import pytest

from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources.documents import DocumentError, Problem, decode_documents, read_documents
from sandboxer.values import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_TEXT_BYTES

HEAD = "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata:\n  name: a\n"


def with_env(value: str) -> str:
    """Return a manifest whose `spec.env.X`, in line 7, is *value* as written."""
    return f"{HEAD}spec:\n  env:\n    X: {value}\n"


def problems_of(text: str) -> list[Problem]:
    """Return what is wrong with *text*; it must be something."""
    with pytest.raises(DocumentError) as caught:
        read_documents(text, "a.yaml")
    return caught.value.problems


def spec_of(text: str) -> dict[str, object]:
    """Return the spec of the one document, as written."""
    (document,) = read_documents(text, "a.yaml")
    assert isinstance(document.resource, Sandbox)
    return document.resource.spec.model_dump(by_alias=True)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("!!bool zz", id="bool"),
        pytest.param("!!timestamp zz", id="timestamp"),
        pytest.param("!!int ''", id="int-empty"),
        pytest.param("!!int zz", id="int"),
        pytest.param("!!float zz", id="float"),
        pytest.param("!!binary zz", id="binary"),
        pytest.param("!!set {a}", id="set"),
        pytest.param("!!python/object:os.system x", id="python-object"),
        pytest.param("!!python/object/apply:os.system ['true']", id="python-apply"),
        pytest.param("!local x", id="local-tag"),
        pytest.param("&x [*x]", id="contains-itself"),
        pytest.param("&anchor text", id="anchor"),
        pytest.param("*nowhere", id="alias"),
        pytest.param('"\\U00110000"', id="no-such-character"),
        pytest.param('"\\ud800"', id="lone-surrogate"),
        pytest.param("9" * 5000, id="many-digits"),
        pytest.param("1e400", id="infinite"),
        pytest.param("[" * 1000, id="deep"),
        pytest.param("{a: " * 40 + "}" * 40, id="deep-mapping"),
        pytest.param('"unfinished', id="unfinished"),
        pytest.param("a\n  - b: [", id="broken"),
        pytest.param("@x", id="reserved-character"),
        pytest.param("'a' 'b'", id="two-values"),
    ],
)
def test_hostile_values_are_refused_with_their_line(value: str) -> None:
    """Whatever YAML allows or breaks on beyond plain data is one problem with its line."""
    problems = problems_of(with_env(value))

    assert problems[0].line >= 7
    assert str(problems[0]).startswith(f"a.yaml:{problems[0].line}:")


def test_a_billion_laughs_are_refused_before_they_are_told() -> None:
    """References that would grow to gigabytes are refused at once and never expanded."""
    lines = [
        "a0: &a0 lol",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)),
    ]

    before_s = time.process_time()
    problems = problems_of("\n".join(lines))

    assert time.process_time() - before_s < 5
    assert problems[0].line == 1


def test_a_merge_key_is_no_operator() -> None:
    """`<<` is a name like any other, and its alias is refused."""
    problems = problems_of(f"{HEAD}spec:\n  <<: *defaults\n")

    assert (problems[0].line, problems[0].column) == (6, 3)


@pytest.mark.parametrize("name", ["name: a\n  name: b", '"name": a\n  name: b'])
def test_a_key_given_twice_is_refused_naming_both_lines(name: str) -> None:
    """The last of two equal keys does not win silently."""
    text = f"apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata:\n  {name}\n"

    (problem,) = problems_of(text)

    assert (problem.line, problem.field) == (5, "metadata.name")
    assert "line 4" in problem.message


@pytest.mark.parametrize(
    "written",
    ["no", "yes", "on", "22:22", "0777", "0x10", "0o17", "1_000", ".5", "2001-13-01", "2001-01-01",
     ".inf", ".nan", "+1", "True", "NULL", "=", "<<"],
)  # fmt: skip
def test_the_surprises_of_yaml_1_1_stay_text(written: str) -> None:
    """What YAML 1.1 would turn into something else is the text that stands there."""
    assert spec_of(with_env(written))["env"] == {"X": written}


@pytest.mark.parametrize(
    ("written", "value"),
    [("true", True), ("false", False), ("1", 1), ("-1", -1), ("1.5", 1.5), ("1e3", 1000.0)],
)
def test_plain_scalars_are_what_json_calls_them(written: str, value: object) -> None:
    """A number is a number and a truth value is one, of exactly that type."""
    inputs = spec_of(f"{HEAD}spec:\n  inputs:\n    x: {written}\n")["inputs"]

    assert inputs == {"x": value}
    assert type(inputs["x"]) is type(value)


@pytest.mark.parametrize("written", ["1", "true", "1.5"])
def test_a_number_where_text_is_meant_is_told_to_be_quoted(written: str) -> None:
    """Nothing is converted; the message shows what to write instead."""
    (problem,) = problems_of(with_env(written))

    assert (problem.line, problem.column, problem.field) == (7, 5, "spec.env.X")
    assert f'"{written}"' in problem.message


def test_depth_up_to_the_limit_is_read() -> None:
    """The limit on nesting is exact: one level less is a matter of the kind."""
    deep = MAX_DEPTH - 3
    fine = problems_of(with_env("[" * deep + "]" * deep))
    too_deep = problems_of(with_env("[" * (deep + 1) + "]" * (deep + 1)))

    assert "must be text" in fine[0].message
    assert "nested deeper" in too_deep[0].message


def test_a_document_that_is_too_large_is_refused() -> None:
    """A document beyond the limit is a problem even when everything in it is right."""
    (problem,) = problems_of(with_env("x" * MAX_DOCUMENT_BYTES))

    assert "larger than" in problem.message


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    """The size is looked at first, also when the cut falls into the middle of a letter."""
    with pytest.raises(DocumentError) as caught:
        decode_documents("ü".encode() * (MAX_TEXT_BYTES // 2) + "ü".encode()[:1], "a.yaml")

    assert "larger than" in caught.value.problems[0].message


@pytest.mark.parametrize(
    "data",
    [b"kind: \xff", "kind: x".encode("utf-16"), b"kind: \x00", b"a: \x1b[2J", b"\xed\xa0\x80"],
    ids=["latin-1", "utf-16", "nul", "escape", "surrogate"],
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    """Only UTF-8 text without control characters is read."""
    with pytest.raises(DocumentError):
        decode_documents(data, "a.yaml")


def test_a_byte_order_mark_is_allowed() -> None:
    """What some editors put first is not part of the text."""
    (document,) = decode_documents(HEAD.encode("utf-8-sig"), "a.yaml")

    assert document.resource.metadata.name == "a"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n---\n", "null\n", "---\n...\n"])
def test_nothing_is_no_document(text: str) -> None:
    """Empty documents and comments are none, and no mistake."""
    assert read_documents(text, "a.yaml") == []


@pytest.mark.parametrize("text", ["text", "1", "true", "[1]", "- a\n- b\n"])
def test_a_manifest_is_a_mapping(text: str) -> None:
    """A document that is something else is told what it is."""
    assert "a manifest is a mapping" in problems_of(text)[0].message


@pytest.mark.parametrize("key", ["[a]", "{a: b}", "? [a]\n"])
def test_a_key_that_is_not_text_is_refused(key: str) -> None:
    """Lists and mappings cannot be keys."""
    assert problems_of(f"{key}: x\n")[0].line == 1


def test_a_list_stands_for_its_items_each_with_its_line() -> None:
    """`kind: List` is as good as several documents."""
    item = "- apiVersion: sandboxer.dev/v1alpha1\n  kind: Sandbox\n  metadata: {name: NAME}\n"
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        + item.replace("NAME", "a")
        + item.replace("NAME", "b")
    )

    documents = read_documents(text, "a.yaml")

    assert [(d.resource.metadata.name, d.line) for d in documents] == [("a", 4), ("b", 7)]


def test_a_mistake_in_a_list_names_the_field_of_the_item() -> None:
    """The line is that of the file, the field that of the object."""
    text = (
        "kind: List\nitems:\n- apiVersion: sandboxer.dev/v1alpha1\n  kind: Sandbox\n"
        "  metadata: {name: a}\n  spec: {profil: x}\n"
    )

    (problem,) = problems_of(text)

    assert (problem.line, problem.field) == (6, "spec.profil")


def test_json_is_read_with_its_escapes_and_tabs() -> None:
    """What a program writes as JSON is read, also where it is no YAML."""
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "a"},
        "spec": {"env": {"X": "\U0001f642\t"}},
    }  # fmt: skip

    for text in (json.dumps(document), json.dumps(document, indent="\t")):
        assert spec_of(text)["env"] == {"X": "\U0001f642\t"}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1e400}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": NaN}',
        '{"a": "\\ud800"}',
        "[" * 100_000,
        '{"a": ' * 5000 + "1" + "}" * 5000,
        '{"a": 1} trailing',
    ],
    ids=["twice", "infinite", "digits", "nan", "surrogate", "open", "deep", "trailing"],
)
def test_hostile_json_is_refused(text: str) -> None:
    """JSON is held to the same limits as YAML."""
    assert problems_of(text)


def test_a_lone_surrogate_in_a_manifest_is_a_problem_that_can_be_shown() -> None:
    """Text that UTF-8 cannot hold is refused, and the message itself can be printed."""
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "a"},
        "spec": {"env": {"X\ud800": "\ud800"}},
    }  # fmt: skip

    problems = problems_of(json.dumps(document, indent="\t"))

    assert "".join(map(str, problems)).encode()


def test_a_hostile_key_cannot_speak_to_the_terminal() -> None:
    """Control characters of a key do not reach the message."""
    (problem,) = problems_of(f'{HEAD}spec:\n  "\\e]0;owned\\a\\nfake: line": 1\n')

    assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("line", "place", "hint"),
    [
        ("kind: Sandbx", (2, 1, "kind"), '"Sandbox"'),
        ("kind: Event", (2, 1, "kind"), "recorded by the controller"),
        ("kind: Deployment", (2, 1, "kind"), "Sandbox"),
        ("kind: [a]", (2, 1, "kind"), "not a known kind"),
    ],
)
def test_an_unknown_kind_gets_a_hint(line: str, place: tuple[int, int, str], hint: str) -> None:
    """A typing mistake is answered with what was probably meant."""
    (problem,) = problems_of(HEAD.replace("kind: Sandbox", line))

    assert (problem.line, problem.column, problem.field) == place
    assert hint in problem.message


def test_an_unknown_field_gets_a_hint_at_its_own_place() -> None:
    """`driftPolcy` is answered with `driftPolicy`, wherever it stands."""
    (problem,) = problems_of(f"{HEAD}spec:\n  env: {{}}\n  driftPolcy: Repair\n")

    assert (problem.line, problem.column, problem.field) == (7, 3, "spec.driftPolcy")
    assert '"driftPolicy"' in problem.message


def test_the_name_python_has_for_a_field_is_no_field() -> None:
    """Only what the schema calls a field is accepted."""
    (problem,) = problems_of(f"{HEAD}spec:\n  drift_policy: Repair\n")

    assert '"driftPolicy"' in problem.message


def test_all_problems_of_all_documents_are_told_at_once() -> None:
    """One reading finds every mistake, in the order of the text, also before a syntax error."""
    text = f"{HEAD}spec:\n  envs: {{}}\n  resources: {{pids: 0}}\n---\nkind: Sandbx\n---\na: [\n"

    problems = problems_of(text)

    assert [(p.line, p.field) for p in problems] == [
        (6, "spec.envs"), (7, "spec.resources.pids"), (9, "kind"), (9, "apiVersion"), (12, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["sandboxer.dev/v1", "apps/v1", "1"])
def test_another_version_is_refused(version: str) -> None:
    """A manifest for another API says which one is understood."""
    (problem,) = problems_of(HEAD.replace("sandboxer.dev/v1alpha1", version))

    assert problem.field == "apiVersion"
    assert "sandboxer.dev/v1alpha1" in problem.message


@pytest.mark.parametrize(
    "name",
    ['""', "a" * 64, "-x", "a..b", "A", "ünï", '"a\\nb"', '"a\\0b"', "$(id)", ";id", "'`id`'",
     "../x", '"\\u202eabc"', '"a\\u200bb"', "\u0430dmin", "x" * 100_000],
)  # fmt: skip
def test_hostile_names_are_refused(name: str) -> None:
    """A name becomes part of labels and paths, so it can be nothing but a name."""
    (problem,) = problems_of(HEAD.replace("name: a", f"name: {name}"))

    assert (problem.line, problem.field) == (4, "metadata.name")
    assert len(str(problem)) < 500


def test_the_same_object_twice_in_a_file_names_both_places() -> None:
    """Neither of two descriptions wins."""
    (problem,) = problems_of(f"{HEAD}---\n{HEAD}")

    assert problem.line == 6
    assert "a.yaml:1" in problem.message


def test_a_namespace_is_filled_in_only_where_one_belongs() -> None:
    """The default namespace goes to what names none and can have one."""
    host = "apiVersion: sandboxer.dev/v1alpha1\nkind: Host\nmetadata: {name: h}\nspec: {transport: local}\n"
    own = HEAD.replace("name: a", "name: a\n  namespace: own")

    documents = read_documents(f"{HEAD}---\n{own}---\n{host}", "a.yaml", namespace="default")

    assert [d.resource.metadata.namespace for d in documents] == ["default", "own", None]


def test_a_cluster_wide_kind_takes_no_namespace() -> None:
    """A Host in a namespace is a mistake, not silently somewhere else."""
    text = "apiVersion: sandboxer.dev/v1alpha1\nkind: Host\nmetadata: {name: h, namespace: x}\n"

    (problem,) = problems_of(f"{text}spec: {{transport: local}}\n")

    assert (problem.line, problem.field) == (3, "metadata.namespace")


def test_a_thousand_manifests_are_read() -> None:
    """A large file is a matter of a second or two, and every document knows its line."""
    text = "---\n".join(HEAD.replace("name: a", f"name: a{n}") for n in range(1000))

    documents = read_documents(text, "a.yaml")

    assert len(documents) == 1000
    assert documents[999].line == 999 * 5 + 1


def test_the_summary_shows_the_first_problems_only() -> None:
    """A file with a mistake in every line is told in a few lines and a count."""
    fields = "".join(f"  x{n}: 1\n" for n in range(500))

    with pytest.raises(DocumentError) as caught:
        read_documents(f"{HEAD}spec:\n{fields}", "a.yaml")

    assert len(caught.value.problems) == 100
    assert caught.value.message.splitlines()[-1].strip() == "and 80 more"
