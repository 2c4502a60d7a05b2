"""Tables: what kubectl prints without `-o`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from sandboxer.api import cells, pods
from sandboxer.api.resources import SERVED
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.secret import Secret
from sandboxer.store import EventRecorder, Store
from sandboxer.testing.clock import EPOCH, ManualClock
from tests.integration.api.watch_lab import SANDBOXES, TABLE


def sandbox(name: str, **labels: str) -> Sandbox:
    return Sandbox(metadata=ObjectMeta(name=name, namespace="default", labels=labels))


async def table(client: httpx.AsyncClient, path: str, **query: str) -> Any:
    answer = await client.get(path, headers={"accept": TABLE}, params=query)
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert (document["kind"], document["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    return document


async def test_a_list_is_a_row_for_each_object(client: httpx.AsyncClient, store: Store) -> None:
    """Columns are the kind's own after the name; rows carry the metadata of their objects."""
    await store.create(sandbox("a", app="web"))
    await store.create(sandbox("b"))

    document = await table(client, SANDBOXES)

    columns = [column["name"] for column in document["columnDefinitions"]]
    assert columns[:4] == ["Name", "Profile", "Phase", "Ready"]
    assert {c["name"] for c in document["columnDefinitions"] if c["priority"] == 1} >= {"Message"}
    first = document["rows"][0]
    assert first["cells"][:4] == ["a", "profile.sandbox-canary", "Pending", None]
    assert len(first["cells"]) == len(columns)
    assert first["object"]["kind"] == "PartialObjectMetadata"
    assert first["object"]["metadata"]["labels"] == {"app": "web"}
    assert "spec" not in first["object"]
    assert document["metadata"]["resourceVersion"] == str(store.revision)


async def test_one_object_is_one_row(client: httpx.AsyncClient, store: Store) -> None:
    """`kubectl get KIND NAME` prints the same table with one row."""
    created = await store.create(sandbox("a"))

    document = await table(client, f"{SANDBOXES}/a")

    assert [row["cells"][0] for row in document["rows"]] == ["a"]
    assert document["metadata"]["resourceVersion"] == created.metadata.resource_version


@pytest.mark.parametrize(
    ("include", "kind"), [("Object", "Sandbox"), ("Metadata", "PartialObjectMetadata")]
)
async def test_rows_carry_what_is_asked_for(
    client: httpx.AsyncClient, store: Store, include: str, kind: str
) -> None:
    """`--sort-by` asks for whole objects."""
    await store.create(sandbox("a"))

    document = await table(client, SANDBOXES, includeObject=include)

    assert document["rows"][0]["object"]["kind"] == kind


async def test_rows_may_carry_nothing(client: httpx.AsyncClient, store: Store) -> None:
    """With None there are cells only."""
    await store.create(sandbox("a"))

    document = await table(client, SANDBOXES, includeObject="None")

    assert list(document["rows"][0]) == ["cells"]


async def test_tables_have_pages(client: httpx.AsyncClient, store: Store) -> None:
    """`--chunk-size` works on tables as on lists."""
    for name in ("a", "b", "c"):
        await store.create(sandbox(name))

    first = await table(client, SANDBOXES, limit="2")
    token = first["metadata"]["continue"]
    second = await table(client, SANDBOXES, **{"limit": "2", "continue": token})

    assert first["metadata"]["remainingItemCount"] == 1
    assert [row["cells"][0] for row in second["rows"]] == ["c"]


async def test_events_have_kubectls_columns(client: httpx.AsyncClient, store: Store) -> None:
    """As Kubernetes prints them, in both groups, with the name last."""
    created = await store.create(sandbox("a"))
    await EventRecorder(store, ManualClock()).record(created, "Tested", "It was tested.")

    for path in ("/api/v1/events", "/apis/events.k8s.io/v1/events"):
        document = await table(client, path)
        shown = [c["name"] for c in document["columnDefinitions"] if c["priority"] == 0]
        assert shown == ["Last Seen", "Type", "Reason", "Object", "Message"]
        cells_ = dict(
            zip(
                [c["name"] for c in document["columnDefinitions"]],
                document["rows"][0]["cells"],
                strict=True,
            )
        )
        assert (cells_["Object"], cells_["Count"]) == ("sandbox/a", 1)
        assert cells_["Message"] == "It was tested."


async def test_an_old_version_of_the_table(client: httpx.AsyncClient, store: Store) -> None:
    """A client that knows only v1beta1 gets that."""
    await store.create(sandbox("a"))
    accept = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"

    document = (await client.get(SANDBOXES, headers={"accept": accept})).json()

    assert document["apiVersion"] == "meta.k8s.io/v1beta1"


async def test_every_resource_can_be_a_table(client: httpx.AsyncClient, store: Store) -> None:
    """The columns of every kind can be read and each has a cell."""
    await store.create(Secret(metadata=ObjectMeta(name="s", namespace="default")))
    await EventRecorder(store, ManualClock()).record(await store.create(sandbox("a")), "R", "M")

    for served in SERVED:
        root = f"/apis/{served.group}" if served.group else "/api"
        document = await table(client, f"{root}/{served.version}/{served.plural}")
        count = len(document["columnDefinitions"])
        assert count > 1, served.plural
        assert all(len(row["cells"]) == count for row in document["rows"])
    assert pods.SERVED in SERVED


DOCUMENT = {
    "text": "x",
    "number": 3,
    "list": ["a", "b"],
    "nested": {"dotted.name": "y"},
    "conditions": [
        {"type": "Accepted", "status": "True"},
        {"type": "Ready", "status": "False"},
        "no condition",
    ],
    "at": (EPOCH - timedelta(minutes=5)).isoformat(),
    "soon": (EPOCH + timedelta(minutes=5)).isoformat(),
}


@pytest.mark.parametrize(
    ("path", "type_", "cell"),
    [
        (".text", "string", "x"),
        (".number", "integer", 3),
        (".number", "string", "3"),
        (".text", "integer", None),
        (".list", "string", '["a","b"]'),
        (".list[1]", "string", "b"),
        (".list[7]", "string", None),
        (".list[*]", "string", "a"),
        (r".nested.dotted\.name", "string", "y"),
        (".nested['dotted.name']", "string", "y"),
        ('.conditions[?(@.type=="Ready")].status', "string", "False"),
        ('.conditions[?(@.type=="Other")].status', "string", None),
        (".absent.deeper", "string", None),
        (".text.deeper", "string", None),
        (".at", "date", "5m"),
        (".soon", "date", "<invalid>"),
        (".text", "date", "<invalid>"),
    ],
)
def test_cells_are_found_by_path(path: str, type_: str, cell: cells.Cell) -> None:
    """Values come as a CRD's printer column shows them."""
    assert cells.cell(path, type_, DOCUMENT, EPOCH) == cell


def test_a_path_that_cannot_be_read_is_a_mistake_of_ours() -> None:
    """Paths stand in the code, so a wrong one is an error and not an empty cell."""
    with pytest.raises(ValueError, match="cannot be read"):
        cells.find(".a[?(@.b>1)]", {})
