"""Rejects requests whose `Host` header is not one of the gateway's names (DNS rebinding)."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from poise.allowed_hosts import AllowedHosts
from poise.telemetry import count, semconv
from poise_services.gateway.problems import MisdirectedError, problem_response


class HostGuard:
    """ASGI middleware that checks the `Host` header."""

    def __init__(self, app: ASGIApp, allowed: AllowedHosts) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 421."""
        if scope["type"] != "http" or self._allowed.allow(Headers(scope=scope).get("host")):
            await self._app(scope, receive, send)
            return
        count(semconv.HTTP_REFUSED, 1, {semconv.REASON: "host"})
        error = MisdirectedError("host: is not this gateway's: POISE_GATEWAY_ALLOWED_HOSTS adds names")
        await problem_response(error.fault())(scope, receive, send)
