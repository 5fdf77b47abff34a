"""Error responses: every 4xx and 5xx of the gateway as problem details (RFC 9457), in the form of a fault."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from poise.contracts import Fault
from poise.errors import InvalidMessageError, PoiseError, RecordTooLargeError, RetryableError, TerminalError

PROBLEM_JSON: Final = "application/problem+json"
_STATUS_END: Final = 600
"""The first number after the HTTP status codes."""
CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for logs and metrics; no client reads it."""

logger = logging.getLogger(__name__)


class NotFoundError(TerminalError):
    """The requested resource does not exist."""

    name = "not-found"
    title = "Not found"
    status = HTTPStatus.NOT_FOUND


class UnauthorizedError(TerminalError):
    """The request needs valid credentials."""

    name = "unauthorized"
    title = "Unauthorized"
    status = HTTPStatus.UNAUTHORIZED


class MethodNotAllowedError(TerminalError):
    """The resource does not support the method."""

    name = "method-not-allowed"
    title = "Method not allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestTooLargeError(InvalidMessageError):
    """The body, or a document in it, is too large."""

    name = "too-large"
    title = "Content too large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class MisdirectedError(TerminalError):
    """The request is for another host."""

    name = "misdirected"
    title = "Misdirected request"
    status = HTTPStatus.MISDIRECTED_REQUEST


class RequestTimeoutError(RetryableError):
    """The request was received too slowly."""

    name = "request-timeout"
    title = "Request timeout"
    status = HTTPStatus.REQUEST_TIMEOUT


class UnsupportedMediaTypeError(InvalidMessageError):
    """The content type is not JSON."""

    name = "unsupported-media-type"
    title = "Unsupported media type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


def problem_response(fault: Fault, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Return a fault as an HTTP response. A fault from another tier may have any status; one below 400 becomes 500."""
    status = fault.status if HTTPStatus.BAD_REQUEST <= fault.status < _STATUS_END else HTTPStatus.INTERNAL_SERVER_ERROR
    body = fault if fault.status == status else fault.model_copy(update={"status": int(status)})
    if fault.retry_after is not None:
        headers = {**headers, "retry-after": str(math.ceil(fault.retry_after))}
    return Response(body.encode(), status, headers, media_type=PROBLEM_JSON)


def install_error_handlers(app: FastAPI) -> None:
    """Respond to each error with a problem, and with the headers collected in `request.state.response_headers`."""
    app.add_exception_handler(PoiseError, _on_poise_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_disconnect)
    app.add_exception_handler(Exception, _on_unexpected_error)


async def _on_poise_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, PoiseError):
        raise error
    if isinstance(error, RecordTooLargeError):  # the record made from the request is too large
        error = RequestTooLargeError(str(error))
    return problem_response(error.fault(), _headers(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    request_line = f"{request.method} {request.url.path}"
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            fault = NotFoundError(f"{request_line}: no such path; see /docs").fault()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            fault = MethodNotAllowedError(f"{request_line}: no such method; see /docs").fault()
        case _:
            fault = (
                TerminalError(f"{request_line}: {error.detail}")
                .fault()
                .model_copy(update={"status": error.status_code})
            )
    return problem_response(fault, {**_headers(request), **(error.headers or {})})


async def _on_client_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _on_unexpected_error(request: Request, _error: Exception) -> Response:
    # Details stay in the log, which the server writes after this: they may be confidential.
    error = PoiseError("the gateway failed on this request: see its log")
    return problem_response(error.fault(), _headers(request))


def _headers(request: Request) -> dict[str, str]:
    return dict(getattr(request.state, "response_headers", {}))
