"""
What schemathesis may generate: requests that come to an end and reach what there is.

Loaded by the program through `SCHEMATHESIS_HOOKS`, see `test_schemathesis.py`.
"""

from __future__ import annotations

import zlib
from typing import Any

import schemathesis

KNOWN = "known"
"""The name under which objects are made beforehand."""

NAMESPACE = "default"


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """
    Ask for a version there is (a later one is waited for and then a 504), and for no watch.

    A watch is a stream of lines; as the one JSON document of its media type it cannot be judged.
    """
    del context
    if not query:
        return query
    mended = dict(query)
    if mended.get("resourceVersion"):
        mended["resourceVersion"] = "0"
    mended.pop("watch", None)
    return mended


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Ask for the objects that exist every other time."""
    del context
    if not path_parameters or not _every_other(path_parameters):
        return path_parameters
    known = {"name": KNOWN, "namespace": NAMESPACE}
    return {key: known.get(key, value) for key, value in path_parameters.items()}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Name what is written as the path does, every other time."""
    del context
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        return body
    if not _every_other(body):
        return body
    return {**body, "metadata": {"name": KNOWN}}


def _every_other(value: Any) -> bool:
    # Of the value itself, so that a case is the same when it is run again.
    return zlib.crc32(repr(value).encode(errors="replace")) % 2 == 0
