"""Label selectors."""

from __future__ import annotations

import pytest

from sandboxer.api import selectors
from sandboxer.errors import InvalidSpecError

LABELS = {"app": "web", "env": "test", "sandboxer.dev/source": "specs"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=api", False),
        ("app!=api", True),
        ("missing!=x", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("env in (test, prod)", True),
        ("env notin (test)", False),
        ("missing notin (a)", True),
        ("app=web,env=prod", False),
        ("sandboxer.dev/source=specs, app", True),
    ],
)
def test_selector_fits_as_in_kubernetes(selector: str, *, fits: bool) -> None:
    """Equality, sets and existence select as Kubernetes defines them."""
    assert selectors.matches(selectors.parse(selector), LABELS) is fits


@pytest.mark.parametrize("selector", ["=x", "a=b=c", "a in b", "a,,b", "a b", "a in (", "ü=1"])
def test_broken_selector_is_refused(selector: str) -> None:
    """A selector that cannot be read selects nothing silently: it is an error."""
    with pytest.raises(InvalidSpecError):
        selectors.parse(selector)
