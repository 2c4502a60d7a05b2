"""
Which faults CI strikes with.

Every case makes its calls anew for each session call it can fail at, which takes seconds to half a
minute where a call starts a compose tool, Packer or a program on an emulated machine. CI kills the
process there in the middle of what changes most, and cuts no link; `make test-exhaustive` strikes
everywhere. `ext.local`
is quick, and always gets all of it.
"""

from __future__ import annotations

import pytest

_SLOW = ("test_compose_ssh.py", "test_vm_packer.py", "test_vm_packer_build.py")
_ALWAYS = {
    "test_process_killed": {"provision-during", "teardown-during"},
    "test_link_lost": set(),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the faults that are left to the exhaustive run."""
    for item in items:
        if item.path.name not in _SLOW or not isinstance(item, pytest.Function):
            continue
        always = _ALWAYS.get(item.originalname)
        if always is not None and item.callspec.id not in always:
            item.add_marker(pytest.mark.exhaustive)
