"""What kubectl auth says, and the reviews it sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandboxer.testing.clock import ManualClock
from tests.integration.api.serving_lab import Lab, served, status_of

ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with served(tmp_path / "data", ManualClock(datetime.now(UTC))) as opened:
        yield opened


async def test_kubectl_knows_who_asks(lab: Lab) -> None:
    """`auth whoami` shows the name of the token and the groups of its role."""
    admin = await lab.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo}")
    viewer = await lab.kubectl("auth", "whoami", access=lab.access("bob", "viewer"))

    assert admin.stdout == (
        '{"groups":["sandboxer:admins","system:authenticated"],"username":"admin"}'
    )
    assert "bob" in viewer.stdout
    assert "sandboxer:viewers" in viewer.stdout


@pytest.mark.parametrize(
    ("question", "admin", "viewer"),
    [
        ("delete sandboxes", "yes", "no"),
        ("get sandboxes", "yes", "yes"),
        ("get pods --subresource=log", "yes", "yes"),
        ("create pods --subresource=exec", "yes", "no"),
        ("get /openapi/v3", "yes", "yes"),
        ("* *", "yes", "no"),
    ],
)
async def test_kubectl_asks_what_it_may(lab: Lab, question: str, admin: str, viewer: str) -> None:
    """`auth can-i` answers yes with 0 and no with 1, in protobuf on the way in."""
    bob = lab.access("bob", "viewer")

    answers = [
        await lab.kubectl("auth", "can-i", *question.split(), access=access)
        for access in (None, bob)
    ]

    assert [answer.stdout.split()[0] for answer in answers] == [admin, viewer]
    assert [answer.status for answer in answers] == [int(word == "no") for word in (admin, viewer)]


async def test_kubectl_lists_what_it_may(lab: Lab) -> None:
    """`auth can-i --list` shows everything for an admin, and reading for a viewer."""
    admin = await lab.kubectl("auth", "can-i", "--list")
    viewer = await lab.kubectl("auth", "can-i", "--list", access=lab.access("bob", "viewer"))

    assert ["*.*", "[]", "[]", "[*]"] in [line.split() for line in admin.stdout.splitlines()]
    assert "[get list watch]" in viewer.stdout
    assert "selfsubjectreviews.authentication.k8s.io" in viewer.stdout
    assert "[*]" not in [line.split("   ")[-1].strip() for line in viewer.stdout.splitlines()[1:]]


async def test_kubectl_makes_a_namespace(lab: Lab) -> None:
    """`create namespace` comes in protobuf with no way back to JSON; a viewer is refused."""
    refused = await lab.kubectl("create", "namespace", "a", access=lab.access("bob", "viewer"))
    made = await lab.kubectl("create", "namespace", "a")
    listed = await lab.kubectl("get", "namespaces", "-o", "name")

    assert refused.status == 1
    assert 'User "bob" cannot create resource "namespaces"' in refused.stderr
    assert made.stdout == "namespace/a created\n"
    assert "namespace/a" in listed.stdout.splitlines()


def review(**spec: Any) -> dict[str, Any]:
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": spec,
    }


async def test_a_review_in_json(lab: Lab) -> None:
    """Older clients send JSON; the answer repeats the question, with 201 and the reason."""
    asked = {"verb": "delete", "group": "sandboxer.dev", "resource": "sandboxes"}

    async with lab.client(lab.access("bob", "viewer").token) as client:
        answer = await client.post(ACCESS, json=review(resourceAttributes=asked))

    assert answer.status_code == 201
    assert answer.json()["spec"] == {"resourceAttributes": asked}
    assert answer.json()["status"] == {
        "allowed": False,
        "reason": "the role of bob is viewer, which may only read",
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(review(), 422, id="asks-nothing"),
        pytest.param(review(resourceAttributes={}, nonResourceAttributes={}), 422, id="asks-both"),
        pytest.param(review(resourceAttributes={"verb": 1}), 400, id="no-text"),
        pytest.param(review(resourceAttributes={}) | {"kind": "Pod"}, 400, id="another-kind"),
        pytest.param({"spec": []}, 400, id="no-object"),
    ],
)
async def test_a_review_that_is_none(lab: Lab, body: dict[str, Any], code: int) -> None:
    """A question that cannot be read is refused, never answered with yes."""
    async with lab.local_client() as client:
        answer = await client.post(ACCESS, json=body)

    assert status_of(answer)[0] == code


async def test_only_ones_own_token_is_reviewed(lab: Lab) -> None:
    """A TokenReview names the user of the request's own token, and tells nothing of others."""
    bob, alice = lab.access("bob", "viewer").token, lab.access("alice", "admin").token
    path = "/apis/authentication.k8s.io/v1/tokenreviews"

    async with lab.client(bob) as client:
        own = await client.post(path, json={"spec": {"token": bob}})
        other = await client.post(path, json={"spec": {"token": alice}})
        none = await client.post(path, json={"spec": {}})

    assert own.json()["status"]["user"]["username"] == "bob"
    assert other.json()["status"]["authenticated"] is False
    assert "alice" not in other.json()["status"]["error"]
    assert none.status_code == 422


@pytest.mark.parametrize("type_", ["application/json", "application/yaml"])
async def test_a_question_is_short(lab: Lab, type_: str) -> None:
    """Who may only look cannot keep the server busy with a body of megabytes."""
    long = b"{" + b" " * 2**15 + b"}"

    async with lab.client(lab.access("bob", "viewer").token) as client:
        answer = await client.post(ACCESS, content=long, headers={"Content-Type": type_})

    assert status_of(answer)[0] == 413


async def test_the_socket_belongs_to_a_local_admin(lab: Lab) -> None:
    """Who connects to the Unix socket needs no token and may do everything."""
    async with lab.local_client() as client:
        who = await client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={})

    assert who.json()["status"]["userInfo"] == {
        "username": "local",
        "groups": ["sandboxer:admins", "system:authenticated"],
    }
