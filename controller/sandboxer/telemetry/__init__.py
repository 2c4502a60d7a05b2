"""What is known of hosts and of what runs there: start reading at `service.py`."""

from sandboxer.telemetry.inventory import View
from sandboxer.telemetry.service import Telemetry
from sandboxer.telemetry.watched import HostReport

__all__ = ["HostReport", "Telemetry", "View"]
