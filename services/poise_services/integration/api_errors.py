"""Errors of third-party APIs.

None causes a dead letter while a caller waits: the caller gets the fault and continues without the integration.
"""

from http import HTTPStatus
from typing import Final

from poise.contracts import Fault
from poise.errors import PoiseError, RateLimitedError, RetryableError, TerminalError, UnavailableError

MAX_QUOTED_CHARS: Final = 200
"""Characters of a response body that an error message quotes."""

_TRANSIENT_STATUSES: Final = frozenset({408, 409, 425})
"""Request timeout, conflict, too early: retryable."""


class ApiFailedError(RetryableError):
    """The API is unreachable, failed or sent an unreadable response; a retry may succeed."""

    dead_letter = False


class ApiRefusedError(TerminalError):
    """The API rejected the request, or its response is unusable; a retry cannot succeed."""

    dead_letter = False


class EmptyResponseError(TerminalError):
    """The API answered 200 with empty content."""

    name = "integration-empty"
    title = "Integration empty"
    status = HTTPStatus.BAD_GATEWAY
    dead_letter = False


class UnknownIntegrationError(UnavailableError):
    """The integration is not configured."""

    dead_letter = False


class CircuitOpenError(UnavailableError):
    """The API failed repeatedly and is not called for a while.

    Args:
        message: What happened, to what, and what to do.
        retry_after: Seconds until it is probed.
    """

    dead_letter = False

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def fault(self) -> Fault:
        """Return the fault for the caller, with `retry_after`."""
        return super().fault().model_copy(update={"retry_after": self.retry_after})


def error_for_status(
    status: int, body: bytes, *, name: str, retry_after: float | None = None, max_wait: float | None = None
) -> PoiseError:
    """Return the error for a response other than 2xx.

    Args:
        status: The HTTP status.
        body: The response body, without secrets.
        name: The integration's name.
        retry_after: The seconds of `Retry-After`.
        max_wait: Seconds that may be waited for a rate limit.
    """
    server_message = " ".join(body[: 8 * MAX_QUOTED_CHARS].decode(errors="replace").split())[:MAX_QUOTED_CHARS]
    message = f"integration {name} answered {status}: {server_message or 'without a reason'}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after, max_wait=max_wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        return ApiFailedError(message, retry_after=retry_after)
    if status < HTTPStatus.BAD_REQUEST:
        return ApiRefusedError(f"integration {name} answered {status}: redirects are not followed, correct its url")
    return ApiRefusedError(message)
