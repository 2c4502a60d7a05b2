"""Profile and sandbox merged into a wish, and the instance an extension is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxer.engine.desired import build_instance, resolve, with_secrets
from sandboxer.errors import InvalidSpecError, TerminalError
from sandboxer.extension import Extension, Instance
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import profile, sandbox
from sandboxer.testing.clock import EPOCH
from sandboxer.testing.fake import FakeExtension, FakeInputs, FakeWorld

EXTENSIONS: dict[str, Extension] = {"ext.fake": FakeExtension(FakeWorld())}


def stored(**spec: Any) -> Sandbox:
    """Return a sandbox as the store would."""
    document = sandbox(**spec).to_document()
    document["metadata"] |= {
        "uid": "11111111-2222-3333-4444-555555555555",
        "creationTimestamp": EPOCH.isoformat(),
    }
    return Sandbox.parse(document)


def instance(found: Sandbox, recipe: Profile | None = None, **ports: int) -> Instance:
    wish = resolve(found, recipe or profile(), EXTENSIONS)
    return build_instance(found, wish, extension="ext.fake", ports=ports, environment="env")


def test_inputs_of_the_sandbox_go_over_the_profiles() -> None:
    """A candidate's inputs go over the profile's, the sandbox's over both."""
    recipe = profile(
        inputs={"command": "profile", "repo": "profile"},
        candidates=[{"extension": "ext.fake", "inputs": {"repo": "candidate"}}],
    )

    plain = instance(stored(), recipe).inputs
    own = instance(stored(inputs={"repo": "own"}), recipe).inputs

    assert plain == FakeInputs(command="profile", repo="candidate")
    assert own == FakeInputs(command="profile", repo="own")


def test_the_rest_of_the_profile_fills_what_is_free() -> None:
    """Placement, limits, lifetime and timeout of the profile count where the sandbox says nothing."""
    recipe = profile(
        placement={"host": "h1"},
        resources={"memory": "1Gi", "pids": 100},
        lifetime={"ttl": "1h"},
        isolation={"minimum": "container"},
        readyTimeout="90s",
    )

    wish = resolve(
        stored(resources={"pids": 5}, isolation={"minimum": "namespace"}), recipe, EXTENSIONS
    )

    assert wish.placement.host == "h1"
    assert (wish.resources.memory, wish.resources.pids) == ("1Gi", 5)
    assert wish.expires_at is not None
    assert (wish.expires_at - EPOCH).total_seconds() == 3600
    assert wish.minimum_isolation == "container"
    assert wish.ready_timeout_s == 90


def test_unknown_profile() -> None:
    """A profile that does not exist is the sandbox's mistake, at its field."""
    with pytest.raises(InvalidSpecError) as raised:
        resolve(stored(profile="gone"), None, EXTENSIONS)

    assert raised.value.field == "spec.profile"
    assert raised.value.reason == "ProfileNotFound"


def test_unknown_input_suggests_a_name() -> None:
    """An input nobody knows names its field and the one that was probably meant."""
    with pytest.raises(InvalidSpecError) as raised:
        resolve(stored(inputs={"repos": "/x"}), profile(), EXTENSIONS)

    assert raised.value.field == "spec.inputs.repos"
    assert '"repo"' in raised.value.remedy


def test_input_of_the_wrong_type() -> None:
    """A number where a text belongs is refused, never converted."""
    with pytest.raises(InvalidSpecError) as raised:
        resolve(stored(inputs={"command": 5}), profile(), EXTENSIONS)

    assert raised.value.field == "spec.inputs.command"


def test_schema_of_the_profile_is_followed() -> None:
    """The profile may narrow what inputs are taken."""
    schema = {"properties": {"command": {"enum": ["a", "b"]}}}

    with pytest.raises(InvalidSpecError) as raised:
        resolve(stored(inputs={"command": "c"}), profile(inputsSchema=schema), EXTENSIONS)

    assert raised.value.field == "spec.inputs.command"


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "nothing"}, id="no-schema"),
        pytest.param({"$ref": "http://192.0.2.1/schema.json"}, id="remote-reference"),
        pytest.param({"$ref": "#/$defs/missing"}, id="dangling-reference"),
        pytest.param({"$ref": "#"}, id="endless"),
        pytest.param({"propertyNames": {"pattern": "("}}, id="bad-pattern"),
    ],
)
def test_schema_that_cannot_be_used(schema: dict[str, Any]) -> None:
    """A profile whose schema is wrong refuses its sandboxes; nothing is fetched for it."""
    with pytest.raises(InvalidSpecError) as raised:
        resolve(stored(inputs={"command": "x"}), profile(inputsSchema=schema), EXTENSIONS)

    assert raised.value.reason == "InvalidInputsSchema"


def test_candidate_that_cannot_take_the_inputs_is_no_error() -> None:
    """While one candidate takes the inputs, another that does not is only passed over."""

    class Strange(FakeExtension):
        inputs_model = type("Strict", (FakeInputs,), {"__annotations__": {"needed": str}})

    extensions = EXTENSIONS | {"ext.strange": Strange(FakeWorld())}
    recipe = profile("fake", "ext.strange", "ext.fake", "ext.gone")

    wish = resolve(stored(), recipe, extensions)

    strange, fake, gone = wish.candidates
    assert strange.inputs is None
    assert "needed" in strange.objection
    assert fake.inputs is not None
    assert gone.extension is None


def test_hash_is_stable() -> None:
    """Equal wishes have equal hashes, in whatever order they were written."""
    one = instance(stored(env={"A": "1", "B": "2"}))
    two = instance(stored(env={"B": "2", "A": "1"}))

    assert one.spec_hash == two.spec_hash
    assert len(one.spec_hash) == 16


@pytest.mark.parametrize(
    ("spec", "moves"),
    [
        pytest.param({"env": {"A": "1"}}, True, id="env"),
        pytest.param({"inputs": {"command": "x"}}, True, id="inputs"),
        pytest.param({"resources": {"pids": 5}}, True, id="resources"),
        pytest.param(
            {"secretRefs": [{"name": "S", "fromEnv": "SANDBOXER_SECRET_S"}]}, True, id="secret"
        ),
        pytest.param({"actor": {"type": "agt", "project": "p"}}, True, id="owner"),
        pytest.param({"lifetime": {"ttl": "1h"}}, False, id="expiry"),
        pytest.param({"driftPolicy": "Report"}, False, id="drift-policy"),
        pytest.param({"operatingMode": "Suspended"}, False, id="operating-mode"),
        pytest.param({"readyTimeout": "9s"}, False, id="ready-timeout"),
    ],
)
def test_hash_moves_with_what_the_backend_follows(spec: dict[str, Any], moves: bool) -> None:  # noqa: FBT001 - a case
    """The hash changes exactly when the backend has something to follow."""
    changed = instance(stored(**spec)).spec_hash != instance(stored()).spec_hash

    assert changed == moves


def test_leases_become_ports() -> None:
    """The instance is told the leased port of each port the spec names."""
    found = stored(ports=[{"name": "web", "containerPort": 80}])

    told = instance(found, web=42000)

    assert [(p.name, p.container_port, p.host_port) for p in told.ports] == [("web", 80, 42000)]


def test_secrets_are_read_at_the_last_moment(tmp_path: Path) -> None:
    """Secrets come from a file or an allowed variable, and are not shown."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    found = stored(
        secretRefs=[
            {"name": "FILE", "fromFile": str(secret)},
            {"name": "ENV", "fromEnv": "SANDBOXER_SECRET_X"},
        ]
    )
    bare = instance(found)

    told = with_secrets(bare, found, {"SANDBOXER_SECRET_X": "other"})

    assert dict(bare.secrets) == {}
    assert {name: value.get_secret_value() for name, value in told.secrets.items()} == {
        "FILE": "s3cret",
        "ENV": "other",
    }
    assert "s3cret" not in repr(told)


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({"name": "S", "fromFile": "/nonexistent/secret"}, id="no-file"),
        pytest.param({"name": "S", "fromEnv": "SANDBOXER_SECRET_GONE"}, id="not-set"),
        pytest.param({"name": "S", "fromEnv": "HOME"}, id="not-allowed"),
        pytest.param({"name": "S", "fromFile": "/dev/zero"}, id="endless"),
    ],
)
def test_secret_that_cannot_be_read(reference: dict[str, str]) -> None:
    """A secret that cannot be read needs a person, and is named without its value."""
    found = stored(secretRefs=[reference])

    with pytest.raises(TerminalError) as raised:
        with_secrets(instance(found), found, {"HOME": "/root"})

    assert raised.value.reason == "SecretUnreadable"
    assert "/root" not in str(raised.value)


def test_binary_secret_is_not_shown(tmp_path: Path) -> None:
    """A secret that is no text is refused without a byte of it in the message."""
    secret = tmp_path / "key"
    secret.write_bytes(b"abc\xff\xfe")
    found = stored(secretRefs=[{"name": "S", "fromFile": str(secret)}])

    with pytest.raises(TerminalError) as raised:
        with_secrets(instance(found), found, {})

    assert "not UTF-8" in str(raised.value)
    assert "abc" not in str(raised.value)
