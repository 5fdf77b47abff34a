"""Sanitizing and formatting of text for a terminal. An answer may quote any document, so its text is untrusted."""

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, marks that reverse the writing direction, and lone surrogates."""


def clean(text: str) -> str:
    """Remove characters that could move the cursor, change colors or hide other text."""
    return _CONTROL.sub("", text)


def format_ms(ms: float) -> str:
    """Format a time for people: `3.1 ms`, `240 ms`, `1.24 s`, `2 min 5 s`."""
    if ms < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{ms:.1f} ms"
    if ms < 1_000:  # noqa: PLR2004 - a second
        return f"{ms:.0f} ms"
    seconds = ms / 1_000
    if seconds < 100:  # noqa: PLR2004 - above, minutes read better
        return f"{seconds:.3g} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def plural(number: int, noun: str) -> str:
    """Format a number with its noun: `1 document`, `79 documents`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_duration(seconds: float) -> str:
    """Format a duration in its largest unit: `45 s`, `12 min`, `3 h`, `7 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
