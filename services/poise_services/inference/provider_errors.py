"""Refusals: what a model server's answer other than 200 means for the request, and whether to try again.

Servers speak OpenAI's form and differ in where they put what happened: in the status, in `code`, in `type`, in
`innererror.code` (Azure), in words alone (vLLM), or, for an error in the middle of a stream, not in a status at all. So
the codes decide before the status does.
"""

import re
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from poise.contracts.json_bounds import check_value_count
from poise.contracts.message import strip_bom
from poise.errors import PoiseError, RateLimitedError, RetryableError, TerminalError

MAX_QUOTED_CHARS: Final = 300
"""How much of what the server said is passed on."""

_TRANSIENT_STATUSES: Final = frozenset({408, 409, 425})
"""Refusals that pass: request timeout, conflict, too early."""
_RATE_CODES: Final = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests"})
"""OpenAI's, Anthropic's and Mistral's; a gateway's that names the status."""
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""OpenAI's, with status 429 too: the money is used up, which no wait of a request's mends."""
_FILTER_CODES: Final = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
"""Azure's `code`, OpenAI's, and Azure's `innererror.code`."""
_TOO_LONG_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""OpenAI's and vLLM's `code`, llama.cpp's `type`."""
_TOO_LONG_WORDS: Final = re.compile(r"context (length|size|window)|too many tokens", re.IGNORECASE)
_OBJECT: Final = TypeAdapter(dict[str, Any])


class ContextTooLongError(TerminalError):
    """The chat and the tokens asked for do not fit the model's context."""

    name = "context-too-long"
    title = "Context too long"
    status = HTTPStatus.BAD_REQUEST
    dead_letter = False  # whoever waits steps on: to another variant, or down the ladder


class ContentFilteredError(TerminalError):
    """The provider's filter lets this chat, or what the model wrote to it, not through."""

    name = "content-filtered"
    title = "Content filtered"
    status = HTTPStatus.BAD_REQUEST
    dead_letter = False  # whoever waits steps on: to another variant, or down the ladder


def error_for_response(status: int, answered: bytes, *, name: str, retry_after: float | None = None) -> PoiseError:
    """The error that an answer other than 200 stands for.

    Args:
        status: The HTTP status.
        answered: The answer's body.
        name: The backend's name.
        retry_after: Seconds that the server asked to be left alone.
    """
    said, codes = _message_and_codes(answered)
    message = f"backend {name} answered {status}: {said or 'without a reason'}"
    if codes & _QUOTA_CODES:
        return RateLimitedError(message, retry_after=retry_after, max_wait=0.0)
    if codes & _RATE_CODES or status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after)
    if codes & _FILTER_CODES:
        return ContentFilteredError(message)
    if codes & _TOO_LONG_CODES:
        return ContextTooLongError(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        return RetryableError(message, retry_after=retry_after)
    return ContextTooLongError(message) if _TOO_LONG_WORDS.search(said) else TerminalError(message)


def _message_and_codes(answered: bytes) -> tuple[str, frozenset[str]]:
    """What the server said, on one line and cut, and the codes it gave; servers differ in where they put them."""
    try:
        check_value_count(answered, "refusal")
        body = _OBJECT.validate_json(strip_bom(answered))
    except ValidationError:
        return _one_line(answered[: 8 * MAX_QUOTED_CHARS].decode(errors="replace")), frozenset()
    error = body.get("error", body)
    if not isinstance(error, dict):
        return _one_line(str(error)), frozenset()
    message = error.get("message") or error.get("detail") or error
    inner = error.get("innererror")
    codes = (error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None)
    return _one_line(str(message)), frozenset(code for code in codes if isinstance(code, str))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTED_CHARS else line[: MAX_QUOTED_CHARS - 1] + "…"
