"""Sinks: who is told over HTTP what happens to sandboxes. Begin with `sinks/sinks.py`."""
