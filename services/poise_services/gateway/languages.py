"""Parses `Accept-Language`."""

import re
from typing import Final

from poise.contracts.ask import LANGUAGE_TAG

MAX_TAG_CHARS: Final = 35
"""The longest accepted tag (RFC 5646, section 4.4.1)."""
MAX_HEADER_CHARS: Final = 2_000
"""Characters of the header that are read: browsers send some 100."""
_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def preferred_language(accept_language: str | None) -> str | None:
    """Return the language with the highest quality, the first of equals (RFC 9110, section 12.5.4); None = none.

    Invalid parts are ignored: a preference is no reason to reject an ask.
    """
    best, quality = None, 0.0
    header = accept_language or ""
    for choice in (header if len(header) <= MAX_HEADER_CHARS else header[:MAX_HEADER_CHARS].rpartition(",")[0]).split(
        ","
    ):
        tag, *parameters = (part.strip() for part in choice.split(";"))
        weight = _quality_of(parameters)
        if weight > quality and len(tag) <= MAX_TAG_CHARS and re.fullmatch(LANGUAGE_TAG, tag):
            best, quality = tag, weight
    return best


def _quality_of(parameters: list[str]) -> float:
    """Return the quality: 1 without a parameter, 0 if the parameters are invalid."""
    if not parameters:
        return 1.0
    name, _, value = parameters[0].partition("=")
    value = value.strip()
    known = len(parameters) == 1 and name.strip().lower() == "q" and _QUALITY.fullmatch(value)
    return float(value) if known else 0.0
