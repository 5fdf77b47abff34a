"""Languages: what a client's `Accept-Language` asks for first."""

import re
from typing import Final

from poise.contracts.ask import LANGUAGE_TAG

LONGEST: Final = 35
"""Characters of a tag that is heard (RFC 5646, section 4.4.1)."""
_CHOICE: Final = re.compile(r"\s*([A-Za-z0-9-]+|\*)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?\s*")


def first_choice(accept_language: str | None) -> str | None:
    """The language with the highest quality, of equals the first (RFC 9110, section 12.5.4); None = no wish.

    What cannot be read is passed over: it is a wish, and no reason to refuse an ask.
    """
    best, quality = None, 0.0
    for choice in (accept_language or "").split(","):
        found = _CHOICE.fullmatch(choice)
        if found is None or len(found[1]) > LONGEST or not re.fullmatch(LANGUAGE_TAG, found[1]):
            continue
        weight = float(found[2] or 1)
        if weight > quality:
            best, quality = found[1], weight
    return best
