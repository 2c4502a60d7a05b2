"""
Objects as a `Table`, which is what kubectl prints without `-o` and with `-o wide`.

Source:
    `Table` of meta.k8s.io/v1; column definitions as apiextensions-apiserver gives them for custom
    resources (v1.32).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from sandboxer.api import cells
from sandboxer.api.negotiation import Wanted
from sandboxer.api.served import Served, TableColumn
from sandboxer.kinds.meta import Column
from sandboxer.store import Entry

JSON = dict[str, Any]

_NAME = TableColumn(
    "Name",
    lambda document, _: str(document["metadata"]["name"]),
    description="Name must be unique within a namespace.",
)
_AGE = Column(name="Age", json_path=".metadata.creationTimestamp", type="date")


def table_columns(served: Served) -> tuple[TableColumn, ...]:
    """Return all columns of a resource; one that declares none shows its age."""
    if served.table:
        return served.table
    return (_NAME, *(_computed(column) for column in served.columns or (_AGE,)))


def _computed(column: Column) -> TableColumn:
    return TableColumn(
        column.name,
        lambda document, now: cells.cell(column.json_path, column.type, document, now),
        column.type,
        column.priority,
        column.description,
    )


def column_definitions(served: Served) -> list[JSON]:
    """Return the `columnDefinitions`."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.name == "Name" else "",
            "description": column.description,
            "priority": column.priority,
        }
        for column in table_columns(served)
    ]


def table(
    served: Served,
    entries: Iterable[Entry],
    *,
    wanted: Wanted,
    include_object: str,
    metadata: JSON,
    now: datetime,
) -> JSON:
    """
    Return a `Table` without its column definitions.

    Args:
        served: The resource.
        entries: One row each.
        wanted: Version of the table.
        include_object: What a row carries: `None`, `Metadata` or `Object`.
        metadata: Of the list.
        now: Current time, for ages.
    """
    columns = table_columns(served)
    rows = []
    for entry in entries:
        document = from_json(entry.body)
        row: JSON = {"cells": [column.cell(document, now) for column in columns]}
        if include_object != "None":
            row["object"] = document if include_object == "Object" else partial(document, wanted)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": wanted.api_version,
        "metadata": metadata,
        "columnDefinitions": [],
        "rows": rows,
    }


def partial(document: JSON, wanted: Wanted) -> JSON:
    """Return an object's metadata as an object of its own."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": wanted.api_version,
        "metadata": document["metadata"],
    }
