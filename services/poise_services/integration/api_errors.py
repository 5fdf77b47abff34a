"""Refusals: what goes wrong with somebody else's API, and what it means for the request.

None is worth a dead letter while somebody waits: whoever waits is told and goes on without, and nobody wants it later.
"""

from http import HTTPStatus
from typing import Final

from poise.contracts import Fault
from poise.errors import PoiseError, RateLimitedError, RetryableError, TerminalError, UnavailableError

MAX_QUOTED_CHARS: Final = 200
"""How much of what the API said is passed on."""

_TRANSIENT_STATUSES: Final = frozenset({408, 409, 425})
"""Refusals that pass: request timeout, conflict, too early."""


class ApiFailedError(RetryableError):
    """The API cannot be reached, failed, or answered something that cannot be read: it may do better later."""

    dead_letter = False


class ApiRefusedError(TerminalError):
    """The API refused the request, or answered what is of no use however often it is asked."""

    dead_letter = False


class EmptyResponseError(TerminalError):
    """The API answered 200 with nothing in it. No error is raised anywhere else for that."""

    name = "integration-empty"
    title = "Integration empty"
    status = HTTPStatus.BAD_GATEWAY
    dead_letter = False


class UnknownIntegrationError(UnavailableError):
    """There is no integration of that name."""

    dead_letter = False


class CircuitOpenError(UnavailableError):
    """The API kept failing, and is left alone for a while.

    Args:
        message: What happened, to what, and what to do.
        retry_after: Seconds until it is tried again.
    """

    dead_letter = False

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def fault(self) -> Fault:
        """This error as the caller is told of it, with how long to wait."""
        return super().fault().model_copy(update={"retry_after": self.retry_after})


def error_for_status(
    status: int, answered: bytes, *, name: str, retry_after: float | None = None, max_wait: float | None = None
) -> PoiseError:
    """The error that an answer other than 2xx stands for.

    Args:
        status: The HTTP status.
        answered: The answer's body, without secrets.
        name: The integration's name.
        retry_after: Seconds that the API asked to be left alone.
        max_wait: Seconds that may be waited for a rate limit.
    """
    said = " ".join(answered[: 8 * MAX_QUOTED_CHARS].decode(errors="replace").split())[:MAX_QUOTED_CHARS]
    message = f"integration {name} answered {status}: {said or 'without a reason'}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after, max_wait=max_wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        return ApiFailedError(message, retry_after=retry_after)
    if status < HTTPStatus.BAD_REQUEST:
        return ApiRefusedError(f"integration {name} answered {status}: redirects are not followed, correct its url")
    return ApiRefusedError(message)
