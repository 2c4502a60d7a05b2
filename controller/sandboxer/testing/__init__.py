"""For tests of the controller and of extensions: time that stands still, documents, a fake backend."""
