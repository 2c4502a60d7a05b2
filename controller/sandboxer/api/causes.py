"""Who a request comes from, as the store keeps it with what the request changes."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from sandboxer.api.users import user_of
from sandboxer.store import Cause

# Name and version of a program as it calls itself; anything longer is no name.
_PROGRAM: Final = re.compile(r"[A-Za-z0-9._/+-]{1,64}", re.ASCII)


def cause_of(request: Request) -> Cause:
    """Return the cause of what a request writes."""
    # What follows the first blank tells of platforms and libraries.
    program = request.headers.get("user-agent", "").partition(" ")[0]
    via = program if _PROGRAM.fullmatch(program) else ""
    return Cause(f"user/{user_of(request.scope).name}", "request", via)
