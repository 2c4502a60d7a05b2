"""
The composition root: builds every part once and is the only package that knows everybody.

`Manager` is opened by every command that does more than read. Parts that cost time to import are
built when they are first needed, so opening one is as cheap as opening the store.
"""

from sandboxer.manager.manager import Manager

__all__ = ["Manager"]
