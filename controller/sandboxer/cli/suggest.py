"""Did you mean: the nearest of the names there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Names listed in a message when none is near; more would hide the message.
MAX_LISTED = 12


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """
    Return `Did you mean "x"?`, else the names there are, else an empty string.

    Args:
        word: What was typed.
        names: What could have been meant, in the order to list them.
    """
    known = list(dict.fromkeys(names))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f'Did you mean "{near[0]}"?'
    if not known:
        return ""
    listed = ", ".join(known[:MAX_LISTED])
    return f"There are: {listed}{', …' if len(known) > MAX_LISTED else ''}."
