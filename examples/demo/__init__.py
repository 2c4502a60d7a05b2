"""The demo behind `make demo`: the main job of sandboxer, shown from nothing to a clean end."""
