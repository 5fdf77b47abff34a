"""Bodies: read up to a limit, and only where they say that they are JSON."""

from fastapi import Request

from poise.contracts import FieldError
from poise_services.gateway.problems import TooLargeError, UnsupportedMediaTypeError

CONTENT_TYPE = "content-type"


async def read_json(request: Request, *, limit: int) -> bytes:
    """The body of a request.

    Saying that it is JSON is asked for, because a browser sends that to another site only with its leave: a page that
    is open somewhere cannot speak to a gateway on this machine.

    Args:
        request: The request.
        limit: Bytes; more are not read.

    Raises:
        UnsupportedMediaTypeError: It does not say that it is JSON.
        TooLargeError: It is larger than the limit.
    """
    given = request.headers.get(CONTENT_TYPE, "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        detail = f"must be application/json, not {given[:80]!r}"
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


def _too_large(limit: int) -> TooLargeError:
    detail = f"is larger than {limit} bytes"
    return TooLargeError(f"body: {detail}", [FieldError(field="body", detail=detail)])
