"""Validation of trace headers (W3C Trace Context, W3C Baggage): malformed ones are dropped.

A message is never refused because of them: its handling does not depend on them.
"""

from collections.abc import Mapping
from typing import Final

from poise.contracts.headers import BAGGAGE, TRACEPARENT, TRACESTATE

MAX_TRACEPARENT: Final = 128
"""Bytes. Version 00 has 55; a later one may append fields."""
MAX_TRACESTATE: Final = 512
MAX_TRACESTATE_MEMBERS: Final = 32
MAX_BAGGAGE: Final = 8_192
MAX_BAGGAGE_MEMBERS: Final = 64

_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_LENGTHS: Final = (2, 32, 16, 2)
"""Hexadecimal digits of version, trace id, parent id and flags."""


def valid_trace_headers(headers: Mapping[str, bytes | None]) -> dict[str, str]:
    """Return the well-formed trace headers of a message; a `tracestate` counts only with its `traceparent`.

    Args:
        headers: All headers of the message, by name.
    """
    valid: dict[str, str] = {}
    if (parent := _text(headers.get(TRACEPARENT), MAX_TRACEPARENT)) is not None and _is_traceparent(parent):
        valid[TRACEPARENT] = parent
        state = _text(headers.get(TRACESTATE), MAX_TRACESTATE)
        if state is not None and _is_list(state, MAX_TRACESTATE_MEMBERS):
            valid[TRACESTATE] = state
    baggage = _text(headers.get(BAGGAGE), MAX_BAGGAGE)
    if baggage is not None and _is_list(baggage, MAX_BAGGAGE_MEMBERS):
        valid[BAGGAGE] = baggage
    return valid


def _text(raw: bytes | None, limit: int) -> str | None:
    """Return the text of a header if it is printable ASCII and not too long."""
    if raw is None or len(raw) > limit or not raw.isascii():
        return None
    text = raw.decode("ascii")
    return text if text.isprintable() else None


def _is_traceparent(text: str) -> bool:
    parts = text.split("-")
    version = parts[0]
    if len(parts) < len(_LENGTHS) or version == "ff" or (version == "00" and len(parts) > len(_LENGTHS)):
        return False
    fixed = parts[: len(_LENGTHS)]
    if any(
        len(part) != length or not _HEXADECIMAL.issuperset(part) for part, length in zip(fixed, _LENGTHS, strict=True)
    ):
        return False
    _, trace, parent, _ = fixed
    return bool(trace.strip("0")) and bool(parent.strip("0"))


def _is_list(text: str, limit: int) -> bool:
    """Return whether a text is a list of `key=value` (`tracestate`, `baggage`); not all members may be empty."""
    members = [member for member in map(str.strip, text.split(",")) if member]
    return 0 < len(members) <= limit and all("=" in member[1:] for member in members)
