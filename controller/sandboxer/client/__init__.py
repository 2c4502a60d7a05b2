"""
The HTTP client of the command line: the kinds, over the API.

It speaks what kubectl speaks, so the two cannot differ, and knows of sandboxer only the kinds,
settings and errors. Read `client.py` first; `mirror.py` is what a waiting verb looks at.
"""

from sandboxer.client.client import Applied, Client, Listing
from sandboxer.client.connection import Answer
from sandboxer.client.mirror import Mirror, Mirrors
from sandboxer.client.server import Server, server_from_settings
from sandboxer.client.watching import Change, ExpiredError

__all__ = [
    "Answer",
    "Applied",
    "Change",
    "Client",
    "ExpiredError",
    "Listing",
    "Mirror",
    "Mirrors",
    "Server",
    "server_from_settings",
]
