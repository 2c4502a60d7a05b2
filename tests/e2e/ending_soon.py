"""A sandbox that its host knows to end soon, however long it took to come up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import yaml

from tests.e2e.installation import Installation

# Time for one pass to tell the host, and for a test to look at what is there.
_SOON = timedelta(seconds=30)


def end_soon(installation: Installation, manifest: str) -> None:
    """Give what was applied by *manifest* an end, and return once its host knows it."""
    document = yaml.safe_load(manifest)
    name = document["metadata"]["name"]
    end = (datetime.now(UTC) + _SOON).replace(microsecond=0)
    document["spec"]["lifetime"] = {"expiresAt": end.isoformat()}
    installation.ok("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def is_told() -> bool:
        switch = installation.sandboxes()[name]["status"].get("deadMansSwitch")
        return switch is not None and datetime.fromisoformat(switch["expiresAt"]) == end

    installation.wait_until("its host knows the end", is_told, timeout_s=60)
