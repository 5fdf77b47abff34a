"""Retry-After: parses the delay that a server asks for in its response headers."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_RETRY_AFTER_MS: Final = "retry-after-ms"
"""Azure's header with a finer resolution; OpenAI's client prefers it too (openai-python, `_base_client.py`)."""


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait that response headers ask for; None if they ask for none.

    Args:
        headers: The response's headers.
        now: Unix seconds.
    """
    milliseconds = parse_retry_after(headers.get(_RETRY_AFTER_MS), now)
    return parse_retry_after(headers.get("retry-after"), now) if milliseconds is None else milliseconds / 1_000


def parse_retry_after(retry_after: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if it is absent or invalid.

    Args:
        retry_after: The header's value: seconds or a date (RFC 9110).
        now: Unix seconds.
    """
    if retry_after is None:
        return None
    if re.fullmatch(
        r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", retry_after
    ):  # servers send fractions although the RFC has none
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):  # not a date, or an impossible one: a year of eleven digits, a zone of days
        return None
    return max(0.0, seconds)
