"""Whether the API is alive and ready, for probes, and which release it speaks like."""

from __future__ import annotations

import platform
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandboxer import __version__
from sandboxer.api.answers import json_response

# The Kubernetes release whose conventions are spoken; kubectl warns when it is further away than
# one minor release.
MAJOR: Final = "1"
MINOR: Final = "32"


async def _alive(request: Request) -> Response:
    return _answer(request, {"ping": True})


async def _ready(request: Request) -> Response:
    opened = getattr(request.app.state, "store", None) is not None
    return _answer(request, {"ping": True, "store": opened})


def _answer(request: Request, checks: dict[str, bool]) -> Response:
    """Return `ok`, or each check by its name when something fails or all are asked for."""
    fine = all(checks.values())
    if fine and "verbose" not in request.query_params:
        return PlainTextResponse("ok")
    lines = [
        f"[+]{name} ok" if passed else f"[-]{name} failed: not open yet"
        for name, passed in checks.items()
    ]
    check = request.url.path.strip("/")
    lines.append(f"{check} check {'passed' if fine else 'failed'}")
    return PlainTextResponse("\n".join(lines) + "\n", status_code=200 if fine else 503)


async def _version(request: Request) -> Response:
    del request
    # NOTE: clients compare major and minor; what it really is stands behind the plus sign.
    return json_response(
        {
            "major": MAJOR,
            "minor": MINOR,
            "gitVersion": f"v{MAJOR}.{MINOR}.0+sandboxer-{__version__}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": platform.python_implementation(),
            "platform": f"{platform.system().lower()}/{platform.machine()}",
        }
    )


ROUTES = [
    Route("/healthz", _ready),
    Route("/livez", _alive),
    Route("/readyz", _ready),
    Route("/version", _version),
]
