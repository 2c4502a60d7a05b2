"""Schema migrations of the store, run by `sandboxer.store.database` when it opens an older file."""
