"""Retry-After: how long somebody else's server asked to be left alone."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_RETRY_AFTER_MS: Final = "retry-after-ms"
"""Azure's, finer than the standard's; OpenAI's own client reads it first, too (openai-python, `_base_client.py`)."""


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a response's headers ask for; None when they ask for none.

    Args:
        headers: The response's headers.
        now: Unix seconds.
    """
    milliseconds = parse_retry_after(headers.get(_RETRY_AFTER_MS), now)
    return parse_retry_after(headers.get("retry-after"), now) if milliseconds is None else milliseconds / 1_000


def parse_retry_after(retry_after: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110: seconds or a date); None when it asks for none.

    Args:
        retry_after: The header.
        now: Unix seconds.
    """
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", retry_after):  # fractions are against the RFC, and are sent
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):  # no date, or none that there is: a year of eleven digits, a zone of days
        return None
    return max(0.0, seconds)
