"""Parses `Accept-Language`."""

import re
from typing import Final

from poise.contracts.ask import LANGUAGE_TAG

MAX_TAG_CHARS: Final = 35
"""Maximum length of a tag (RFC 5646, section 4.4.1)."""
MAX_HEADER_CHARS: Final = 2_000
"""Characters of the header that are parsed; browsers send about 100."""
_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def preferred_language(accept_language: str | None) -> str | None:
    """Return the language with the highest quality, the first of equals (RFC 9110, section 12.5.4); None if none.

    Invalid parts are ignored: a preference is no reason to reject an ask.
    """
    header = accept_language or ""
    if len(header) > MAX_HEADER_CHARS:
        header = header[:MAX_HEADER_CHARS].rpartition(",")[0]
    best: str | None = None
    best_quality = 0.0
    for choice in header.split(","):
        tag, *parameters = (part.strip() for part in choice.split(";"))
        quality = _quality_of(parameters)
        if quality > best_quality and len(tag) <= MAX_TAG_CHARS and re.fullmatch(LANGUAGE_TAG, tag):
            best, best_quality = tag, quality
    return best


def _quality_of(parameters: list[str]) -> float:
    """Return the quality: 1 without a parameter, 0 if the parameters are invalid."""
    if not parameters:
        return 1.0
    name, _, value = parameters[0].partition("=")
    value = value.strip()
    valid = len(parameters) == 1 and name.strip().lower() == "q" and _QUALITY.fullmatch(value)
    return float(value) if valid else 0.0
