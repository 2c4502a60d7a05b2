"""A Kubernetes-style reconciling controller for sandboxes; start reading at `engine/reconcile.py`."""

__version__ = "0.1.0"
