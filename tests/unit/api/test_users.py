"""What a request wants, and who may."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.api.users import Action, User, action_of, permits, refusal

BOB = User("bob", "viewer")
ADMIN = User("alice", "admin")
OURS = "/apis/sandboxer.dev/v1alpha1"


def scope(method: str, target: str) -> dict[str, Any]:
    path, _, query = target.partition("?")
    if method == "WEBSOCKET":
        return {"type": "websocket", "path": path, "query_string": query.encode()}
    return {"type": "http", "method": method, "path": path, "query_string": query.encode()}


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", f"{OURS}/namespaces/ns/sandboxes/a", "get ns sandboxes.sandboxer.dev a"),
        ("HEAD", f"{OURS}/namespaces/ns/sandboxes/a", "get ns sandboxes.sandboxer.dev a"),
        ("GET", f"{OURS}/namespaces/ns/sandboxes", "list ns sandboxes.sandboxer.dev"),
        ("GET", f"{OURS}/sandboxes?limit=5&watch=true", "watch sandboxes.sandboxer.dev"),
        ("POST", f"{OURS}/namespaces/ns/sandboxes", "create ns sandboxes.sandboxer.dev"),
        ("PUT", f"{OURS}/hosts/h/status", "update hosts.sandboxer.dev h /status"),
        ("PATCH", f"{OURS}/hosts/h", "patch hosts.sandboxer.dev h"),
        ("DELETE", f"{OURS}/hosts/h", "delete hosts.sandboxer.dev h"),
        ("DELETE", f"{OURS}/hosts", "deletecollection hosts.sandboxer.dev"),
        ("GET", "/api/v1/namespaces/ns", "get ns namespaces ns"),
        ("GET", "/api/v1/namespaces", "list namespaces"),
        ("PUT", "/api/v1/namespaces/ns/finalize", "update ns namespaces ns /finalize"),
        ("GET", "/api/v1/namespaces/ns/pods/p/log", "get ns pods p /log"),
        ("GET", "/api/v1/namespaces/ns/pods/p/exec?command=sh", "create ns pods p /exec"),
        ("WEBSOCKET", "/api/v1/namespaces/ns/pods/p/exec", "create ns pods p /exec"),
        ("WEBSOCKET", f"{OURS}/namespaces/ns/sandboxes/a/portforward", "create ns sandboxes.sandboxer.dev a /portforward"),
        ("PURGE", f"{OURS}/hosts/h", "unknown hosts.sandboxer.dev h"),
        ("GET", "/version", "get /version"),
        ("GET", "/openapi/v3/apis/sandboxer.dev/v1alpha1", "get /openapi/v3/apis/sandboxer.dev/v1alpha1"),
        ("GET", OURS, f"get {OURS}"),
        ("GET", "/api/v1", "get /api/v1"),
        ("POST", "//api//v1//namespaces/ns/pods", "create ns pods"),
    ],
)  # fmt: skip
def test_actions(method: str, target: str, expected: str) -> None:
    """Verb, namespace, resource, name and subresource are Kubernetes' for each request."""
    action = action_of(scope(method, target))

    resource = action.resource + (f".{action.group}" if action.group else "")
    sub = f"/{action.subresource}" if action.subresource else ""
    said = [action.verb, action.path, action.namespace, resource, action.name, sub]
    assert " ".join(filter(None, said)) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action(verb="get", resource="sandboxes"), True),
        (Action(verb="watch", resource="sandboxes"), True),
        (Action(verb="get", resource="pods", subresource="log"), True),
        (Action(verb="get", path="/version"), True),
        (Action(verb="create", group="authentication.k8s.io", resource="selfsubjectreviews"), True),
        (Action(verb="create", group="sandboxer.dev", resource="selfsubjectreviews"), False),
        (
            Action(verb="delete", group="authentication.k8s.io", resource="selfsubjectreviews"),
            False,
        ),
        (Action(verb="get", resource="pods", subresource="exec"), False),
        (Action(verb="get", resource="pods", subresource="exec\n"), False),
        (Action(verb="get", resource="pods", subresource="proxy"), False),
        (
            Action(verb="get", group="sandboxer.dev", resource="sandboxes", subresource="story"),
            True,
        ),
        (Action(verb="create", resource="pods", subresource="portforward"), False),
        (Action(verb="delete", resource="sandboxes"), False),
        (Action(verb="deletecollection", resource="sandboxes"), False),
        (Action(verb="unknown", resource="sandboxes"), False),
        (Action(verb="*", resource="*"), False),
        (Action(verb="create", path="/version"), False),
    ],
)
def test_viewers_read(action: Action, *, expected: bool) -> None:
    """A viewer reads, logs included, and asks about themselves; an admin may do everything."""
    assert permits(BOB, action) is expected
    assert permits(ADMIN, action)


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        (
            "DELETE",
            f"{OURS}/namespaces/default/sandboxes/x",
            (
                'sandboxes.sandboxer.dev "x" is forbidden: User "bob" cannot delete resource '
                '"sandboxes" in API group "sandboxer.dev" in the namespace "default"'
            ),
        ),
        (
            "POST",
            f"{OURS}/hosts",
            (
                'hosts.sandboxer.dev is forbidden: User "bob" cannot create resource "hosts" in API '
                'group "sandboxer.dev" at the cluster scope'
            ),
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/p/exec",
            (
                'pods "p" is forbidden: User "bob" cannot create resource "pods/exec" in API group "" '
                'in the namespace "default"'
            ),
        ),
        ("POST", "/version", 'forbidden: User "bob" cannot create path "/version"'),
    ],
)
def test_refusals_are_in_the_words_of_kubernetes(method: str, target: str, message: str) -> None:
    """Who is refused reads what a Kubernetes server would say."""
    error = refusal(BOB, action_of(scope(method, target)))

    assert (error.code, error.reason, error.message) == (403, "Forbidden", message)
