"""`python -m sandboxer` is the command line."""

from __future__ import annotations

from sandboxer.cli.main import main

if __name__ == "__main__":
    main()
