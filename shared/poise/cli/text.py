"""Text that others wrote, made harmless to a terminal: an answer may quote any document."""

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""All control characters but tab and newline, and the marks that reverse the direction of writing."""


def clean(text: str) -> str:
    """The text without what could move the cursor, change colours or hide other text."""
    return _CONTROL.sub("", text)


def milliseconds(ms: float) -> str:
    """A time as a person reads it: `3.1 ms`, `240 ms`, `1.24 s`, `2 min 5 s`."""
    if ms < 10:  # noqa: PLR2004 - below, tenths tell something
        return f"{ms:.1f} ms"
    if ms < 1_000:  # noqa: PLR2004 - a second
        return f"{ms:.0f} ms"
    seconds = ms / 1_000
    if seconds < 100:  # noqa: PLR2004 - above, minutes read better
        return f"{seconds:.3g} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def plural(number: int, noun: str) -> str:
    """A number with its noun: `1 document`, `79 documents`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")
