"""Reads JSON request bodies up to a limit."""

from fastapi import Request

from poise.contracts import FieldError
from poise_services.gateway.problems import RequestTooLargeError, UnsupportedMediaTypeError

CONTENT_TYPE = "content-type"


async def read_json(request: Request, *, limit: int) -> bytes:
    """Return the body of a request.

    The content type must be JSON. A browser sends JSON to another origin only after a CORS preflight, so no web page
    can reach a gateway on the user's machine.

    Args:
        request: The request.
        limit: Maximum size, bytes.

    Raises:
        UnsupportedMediaTypeError: The content type is not JSON.
        RequestTooLargeError: The body is larger than the limit.
    """
    content_type = request.headers.get(CONTENT_TYPE, "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        detail = f"must be application/json, not {content_type[:80]!r}"
        raise UnsupportedMediaTypeError(f"{CONTENT_TYPE}: {detail}", [FieldError(field=CONTENT_TYPE, detail=detail)])
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:18]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> RequestTooLargeError:
    detail = f"is larger than {limit} bytes"
    return RequestTooLargeError(f"body: {detail}", [FieldError(field="body", detail=detail)])
