"""Maps error responses of OpenAI-compatible servers to errors, which decide whether to retry.

Servers differ in where they put the cause: in the status, `code`, `type`, `innererror.code` (Azure), or only in the
message (vLLM). An error inside a stream has no status. So the codes take precedence over the status.
"""

import re
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from poise.contracts.json_bounds import check_value_count
from poise.contracts.message import strip_bom
from poise.errors import PoiseError, RateLimitedError, RetryableError, TerminalError

MAX_QUOTED_CHARS: Final = 300
"""Characters of a server's message that an error quotes."""

_TRANSIENT_STATUSES: Final = frozenset({408, 409, 425})
"""Request timeout, conflict, too early: retryable."""
_RATE_CODES: Final = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests"})
"""OpenAI's, Anthropic's, Mistral's, and one that gateways use."""
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""OpenAI's, also with status 429: the quota is exhausted, so waiting does not help."""
_FILTER_CODES: Final = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
"""Azure's `code`, OpenAI's, and Azure's `innererror.code`."""
_TOO_LONG_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""OpenAI's and vLLM's `code`, llama.cpp's `type`."""
_TOO_LONG_WORDS: Final = re.compile(r"context (length|size|window)|too many tokens", re.IGNORECASE)
_OBJECT: Final = TypeAdapter(dict[str, Any])


class BackendFailedError(RetryableError):
    """The backend is unreachable, failed, or sent a response that cannot be read; a retry may succeed."""


class ContextTooLongError(TerminalError):
    """The chat plus the requested tokens exceed the model's context."""

    name = "context-too-long"
    title = "Context too long"
    status = HTTPStatus.BAD_REQUEST
    dead_letter = False  # the caller continues with another variant or down the ladder


class ContentFilteredError(TerminalError):
    """The provider's content filter rejected the chat or the completion."""

    name = "content-filtered"
    title = "Content filtered"
    status = HTTPStatus.BAD_REQUEST
    dead_letter = False  # the caller continues with another variant or down the ladder


def error_for_response(status: int, body: bytes, *, name: str, retry_after: float | None = None) -> PoiseError:
    """Return the error for a response other than 200.

    Args:
        status: The HTTP status.
        body: The response body.
        name: The backend's name.
        retry_after: The seconds of `Retry-After`.
    """
    server_message, codes = _message_and_codes(body)
    message = f"backend {name} answered {status}: {server_message or 'without a reason'}"
    if codes & _QUOTA_CODES:
        return RateLimitedError(message, retry_after=retry_after, max_wait=0.0)
    if codes & _RATE_CODES or status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after)
    if codes & _FILTER_CODES:
        return ContentFilteredError(message)
    if codes & _TOO_LONG_CODES:
        return ContextTooLongError(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        return BackendFailedError(message, retry_after=retry_after)
    return ContextTooLongError(message) if _TOO_LONG_WORDS.search(server_message) else TerminalError(message)


def _message_and_codes(body: bytes) -> tuple[str, frozenset[str]]:
    """Return the server's message, truncated to one line, and its error codes."""
    try:
        check_value_count(body, "refusal")
        parsed = _OBJECT.validate_json(strip_bom(body))
    except ValidationError:
        return _one_line(body[: 8 * MAX_QUOTED_CHARS].decode(errors="replace")), frozenset()
    error = parsed.get("error", parsed)
    if not isinstance(error, dict):
        return _one_line(str(error)), frozenset()
    message = error.get("message") or error.get("detail") or error
    inner = error.get("innererror")
    codes = (error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None)
    return _one_line(str(message)), frozenset(code for code in codes if isinstance(code, str))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTED_CHARS else line[: MAX_QUOTED_CHARS - 1] + "…"
