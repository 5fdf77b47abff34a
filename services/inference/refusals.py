"""Refusals: what a model server's answer other than 200 means for the request, and whether to try again."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from poise.errors import PoiseError, RetryableError, TerminalError

SAID_CHARS: Final = 300
"""How much of what the server said is passed on."""

_PASSING: Final = frozenset({408, 409, 425, 429})
"""Refusals that pass: request timeout, conflict, too early, too many requests."""
_TOO_LONG_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""OpenAI's and vLLM's `code`, llama.cpp's `type`."""
_TOO_LONG_WORDS: Final = re.compile(r"context (length|size|window)|too many tokens", re.IGNORECASE)
_OBJECT: Final = TypeAdapter(dict[str, Any])


class ContextTooLongError(TerminalError):
    """The chat and the tokens asked for do not fit the model's context."""

    name = "context-too-long"
    title = "Context too long"
    status = HTTPStatus.BAD_REQUEST


def refusal(status: int, answered: bytes, *, name: str, retry_after: float | None = None) -> PoiseError:
    """The error that an answer other than 200 stands for.

    Args:
        status: The HTTP status.
        answered: The answer's body.
        name: The backend's name.
        retry_after: Seconds that the server asked to be left alone.
    """
    said, codes = _said(answered)
    message = f"backend {name} answered {status}: {said or 'without a reason'}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
        return RetryableError(message, retry_after=retry_after)
    if codes & _TOO_LONG_CODES or _TOO_LONG_WORDS.search(said):
        return ContextTooLongError(message)
    return TerminalError(message)


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110: seconds or a date); None when it asks for none.

    Args:
        retry_after: The header.
        now: Unix seconds.
    """
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", retry_after):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)


def _said(answered: bytes) -> tuple[str, frozenset[str]]:
    """What the server said, on one line and cut, and the codes it gave; servers differ in where they put them."""
    try:
        body = _OBJECT.validate_json(answered)
    except ValidationError:
        return _line(answered[: 8 * SAID_CHARS].decode(errors="replace")), frozenset()
    error = body.get("error", body)
    if not isinstance(error, dict):
        return _line(str(error)), frozenset()
    message = error.get("message") or error.get("detail") or error
    codes = (error.get("code"), error.get("type"))
    return _line(str(message)), frozenset(code for code in codes if isinstance(code, str))


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SAID_CHARS else line[: SAID_CHARS - 1] + "…"
