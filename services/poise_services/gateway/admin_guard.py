"""Protects the admin endpoints with a bearer token."""

import hmac
import logging
from typing import Final

from fastapi import Request, Response

from poise_services.gateway.http_handler import HttpHandler
from poise_services.gateway.problems import NotFoundError, UnauthorizedError
from poise_services.gateway.settings import GatewaySettings

CHALLENGE: Final = 'Bearer realm="poise"'

logger = logging.getLogger(__name__)


class AdminGuard:
    """Protects handlers with the setting `admin_token`; without it they answer 404."""

    def __init__(self, settings: GatewaySettings) -> None:
        token = settings.admin_token
        self._token = None if token is None else token.get_secret_value().encode()

    def require_token(self, handler: HttpHandler) -> HttpHandler:
        """Return the handler, restricted to requests with the token.

        Raises:
            NotFoundError: No token is configured: the interface is off.
            UnauthorizedError: The token is missing or wrong.
        """

        async def guarded(request: Request) -> Response:
            self._check(request)
            return await handler(request)

        return guarded

    def _check(self, request: Request) -> None:
        if self._token is None:
            raise NotFoundError("the admin interface is off: POISE_GATEWAY_ADMIN_TOKEN turns it on")
        # Compare bytes: read as Latin-1, the last byte of a UTF-8 token may be white space ("à" ends in 0xA0).
        scheme, _, token = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
        # Compare in constant time, so that the duration does not reveal how much of a guess is right.
        matches = hmac.compare_digest(token.strip(b" \t"), self._token)
        if scheme.lower() != b"bearer" or not matches:
            logger.warning("%s %s rejected: missing or wrong token", request.method, request.url.path)
            request.state.response_headers = {"www-authenticate": CHALLENGE}
            raise UnauthorizedError("authorization: must be Bearer and the admin token")
