"""The Python clients of Kubernetes against a controller: `kubernetes` and `kr8s`, over TLS."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import kr8s.objects
import kubernetes.dynamic
import kubernetes.stream
import pytest
from kubernetes.client.exceptions import ApiException

from tests.kubectl.session import PATIENCE_S, Kubectl, condition, sandbox, until

# NOTE: what these libraries say of their types is partly missing and partly wrong.
k8s: Any = kubernetes
k8r: Any = kr8s

# NOTE: both libraries leave connections they no longer need to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

GROUP = {"group": "sandboxer.dev", "version": "v1alpha1"}


@pytest.fixture(scope="module")
def client(kubectl: Kubectl) -> Iterator[Any]:
    """The connection of the `kubernetes` client, made from the kubeconfig."""
    with k8s.config.new_client_from_config(kubectl.environment["KUBECONFIG"]) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _one(kubectl: Kubectl) -> Iterator[None]:
    kubectl.apply(sandbox("one", labels={"app": "demo"}))
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_custom_objects(client: Any, kubectl: Kubectl) -> None:
    """Create, get, list, patch, replace and delete of a kind the client does not know."""
    api = k8s.client.CustomObjectsApi(client)
    where = {**GROUP, "namespace": kubectl.namespace, "plural": "sandboxes"}

    made = api.create_namespaced_custom_object(**where, body=sandbox("custom"))
    assert made["metadata"]["generation"] == 1
    # The list of patch types of this client is JSON patch first; a dict makes it a merge patch.
    api.patch_namespaced_custom_object(**where, name="custom", body={"spec": {"env": {"A": "1"}}})
    found = api.get_namespaced_custom_object(**where, name="custom")
    assert found["spec"]["env"] == {"A": "1"}
    until(lambda: _ready(api.get_namespaced_custom_object_status(**where, name="custom")))
    found = api.get_namespaced_custom_object(**where, name="custom")
    found["spec"]["env"] = {"B": "2"}
    assert api.replace_namespaced_custom_object(**where, name="custom", body=found)["spec"][
        "env"
    ] == {"B": "2"}
    listed = api.list_namespaced_custom_object(**where, label_selector="app=demo")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["one"]
    api.delete_namespaced_custom_object(**where, name="custom")

    def gone() -> bool:
        try:
            api.get_namespaced_custom_object(**where, name="custom")
        except ApiException as error:
            return bool(error.status == 404)
        return False

    until(gone)


def _ready(document: dict[str, Any]) -> bool:
    return condition(document, "Ready") == "True"


def test_conflicts_are_told(client: Any, kubectl: Kubectl) -> None:
    """A replace of an old version is a 409, as clients expect it for their retries."""
    api = k8s.client.CustomObjectsApi(client)
    where = {**GROUP, "namespace": kubectl.namespace, "plural": "sandboxes", "name": "one"}
    old = api.get_namespaced_custom_object(**where)
    kubectl.ok("label", "sbx", "one", "moved=yes")

    with pytest.raises(ApiException) as caught:
        api.replace_namespaced_custom_object(**where, body=old)

    assert caught.value.status == 409


def test_watch(client: Any, kubectl: Kubectl) -> None:
    """`watch.Watch` goes on from the version of a list and ends when its time is over."""
    api = k8s.client.CustomObjectsApi(client)
    where = {**GROUP, "namespace": kubectl.namespace, "plural": "sandboxes"}
    version = api.list_namespaced_custom_object(**where)["metadata"]["resourceVersion"]
    kubectl.ok("label", "sbx", "one", "seen=yes")

    watch = k8s.watch.Watch()
    events = watch.stream(
        api.list_namespaced_custom_object, **where, resource_version=version, timeout_seconds=30
    )
    # NOTE: closed at once, or the connection is until it is collected.
    with closing(events):
        event = next(
            event for event in events if event["object"]["metadata"]["labels"].get("seen") == "yes"
        )

    assert event["type"] == "MODIFIED"
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)
    nothing = watch.stream(
        api.list_namespaced_custom_object, **where, label_selector="no=such", timeout_seconds=1
    )
    assert list(nothing) == []


def test_the_dynamic_client_applies_on_the_server(client: Any, kubectl: Kubectl) -> None:
    """Discovery, server-side apply and a conflict through the dynamic client."""
    dynamic = k8s.dynamic.DynamicClient(client)
    sandboxes = dynamic.resources.get(api_version="sandboxer.dev/v1alpha1", kind="Sandbox")
    where = {"namespace": kubectl.namespace}

    applied = dynamic.server_side_apply(
        sandboxes, body=sandbox("applied", env={"A": "1"}), field_manager="a", **where
    )
    assert applied.spec.env.A == "1"
    with pytest.raises(ApiException) as caught:
        dynamic.server_side_apply(
            sandboxes, body=sandbox("applied", env={"A": "2"}), field_manager="b", **where
        )
    assert caught.value.status == 409
    assert ".spec.env.A" in (caught.value.body or "")
    forced = dynamic.server_side_apply(
        sandboxes, body=sandbox("applied", env={"A": "2"}), field_manager="b",
        force_conflicts=True, **where,
    )  # fmt: skip
    assert forced.spec.env.A == "2"
    assert {item.metadata.name for item in sandboxes.get(**where).items} >= {"one", "applied"}


def test_typed_clients_of_built_in_kinds(client: Any, kubectl: Kubectl) -> None:
    """Pods, events, namespaces, logs and `version` come as the client's own types."""
    core = k8s.client.CoreV1Api(client)

    pod = core.read_namespaced_pod("one", kubectl.namespace)
    assert (pod.status.phase, pod.spec.node_name) == ("Running", "local")
    until(lambda: core.read_namespaced_pod_log("one", kubectl.namespace) == "first\n")
    events = core.list_namespaced_event(
        kubectl.namespace, field_selector="involvedObject.name=one,reason=Ready"
    )
    assert [event.involved_object.kind for event in events.items] == ["Sandbox"]
    assert kubectl.namespace in {item.metadata.name for item in core.list_namespace().items}
    assert k8s.client.VersionApi(client).get_code().minor == "32"
    reviewed = k8s.client.AuthorizationV1Api(client).create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "delete", "resource": "sandboxes"}}}
    )
    assert reviewed.status.allowed


def test_exec_through_the_typed_client(kubectl: Kubectl) -> None:
    """`stream` runs a command and returns what it prints."""
    # NOTE: `stream` changes the client it is given, so it has one of its own.
    with k8s.config.new_client_from_config(kubectl.environment["KUBECONFIG"]) as own:
        core = k8s.client.CoreV1Api(own)

        # Without preloading, because the library leaves that connection to the collector.
        running = k8s.stream.stream(
            core.connect_get_namespaced_pod_exec, "one", kubectl.namespace,
            command=["sh", "-c", "echo inside; exit 7"], stdout=True, stderr=True, stdin=False,
            tty=False, _preload_content=False,
        )  # fmt: skip
        running.run_forever(timeout=PATIENCE_S)
        said, status = running.read_stdout(), running.returncode
        running.close()

    assert (said, status) == ("inside\n", 7)


Sandbox = k8r.objects.new_class(
    kind="Sandbox", version="sandboxer.dev/v1alpha1", namespaced=True, plural="sandboxes"
)


def test_kr8s(kubectl: Kubectl) -> None:
    """kr8s creates, waits, patches, labels, lists and deletes Sandboxes."""
    api = k8r.api(kubeconfig=kubectl.environment["KUBECONFIG"], namespace=kubectl.namespace)
    document = sandbox("by-kr8s", labels={"made": "kr8s"})
    document["metadata"]["namespace"] = kubectl.namespace

    made = Sandbox(document, api=api)
    made.create()
    made.wait("condition=Ready", timeout=PATIENCE_S)
    pod = k8r.objects.Pod.get("by-kr8s", namespace=kubectl.namespace, api=api)
    # Ready says that it runs, not that it has printed.
    until(lambda: list(pod.logs()) == ["first"])
    assert pod.exec(["echo", "inside"]).stdout == b"inside\n"
    made.patch({"spec": {"env": {"A": "1"}}})
    made.label({"more": "yes"})
    made.refresh()
    assert made.raw["spec"]["env"] == {"A": "1"}
    found = api.get("sandboxes.sandboxer.dev", label_selector={"made": "kr8s"})
    assert [item.name for item in found] == ["by-kr8s"]
    assert api.whoami() == "admin"
    made.delete()
    made.wait("delete", timeout=PATIENCE_S)
    assert not made.exists()


def test_kr8s_watches(kubectl: Kubectl) -> None:
    """A watch of kr8s sees what happens to one object."""
    api = k8r.api(kubeconfig=kubectl.environment["KUBECONFIG"], namespace=kubectl.namespace)
    events = api.watch("sandboxes.sandboxer.dev", field_selector="metadata.name=one")
    assert next(iter(events))[0] == "ADDED"
    labelled = threading.Thread(target=kubectl.ok, args=("label", "sbx", "one", "watched=yes"))
    labelled.start()

    type_, seen = next((t, o) for t, o in events if o.labels.get("watched") == "yes")

    labelled.join(PATIENCE_S)
    assert (type_, seen.name) == ("MODIFIED", "one")
