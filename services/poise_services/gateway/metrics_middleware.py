"""Measures the duration of HTTP requests, by OpenTelemetry's conventions for HTTP servers."""

import time
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poise.telemetry import measure, semconv

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class MetricsMiddleware:
    """ASGI middleware that measures requests; an unhandled exception counts as 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        started = time.perf_counter()

        async def observe_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, observe_status)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
            attributes = {semconv.HTTP_METHOD: method, semconv.HTTP_STATUS: status}
            if "route" in scope:  # the declared route: raw paths would have unbounded cardinality
                attributes[semconv.HTTP_ROUTE] = scope["route"].path
            measure(semconv.HTTP_DURATION, time.perf_counter() - started, attributes)
