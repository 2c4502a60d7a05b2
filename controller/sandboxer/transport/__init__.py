"""Reaching machines: start reading at `connections.py`."""

from sandboxer.transport.connections import Connections
from sandboxer.transport.session import HostSession

__all__ = ["Connections", "HostSession"]
