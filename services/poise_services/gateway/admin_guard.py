"""Admin: requests that only whoever has the token may make."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request, Response

from poise_services.gateway.problems import NotFoundError, UnauthorizedError
from poise_services.gateway.settings import GatewaySettings

CHALLENGE: Final = 'Bearer realm="poise"'

HttpHandler = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)


class AdminGuard:
    """Guards handlers by the setting `admin_token`; without one they are not there."""

    def __init__(self, settings: GatewaySettings) -> None:
        token = settings.admin_token
        self._token = None if token is None else token.get_secret_value().encode()

    def require_token(self, handler: HttpHandler) -> HttpHandler:
        """The handler, for whoever sends `Authorization: Bearer` and the token.

        Raises:
            NotFoundError: There is no token: the interface is off.
            UnauthorizedError: It was not sent, or is another.
        """

        async def guarded(request: Request) -> Response:
            self._check(request)
            return await handler(request)

        return guarded

    def _check(self, request: Request) -> None:
        if self._token is None:
            raise NotFoundError("the admin interface is off: POISE_GATEWAY_ADMIN_TOKEN turns it on")
        # As bytes: a token may end in a letter of which a part, read as Latin-1, is white space ("à" ends in 0xA0).
        scheme, _, given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
        # In constant time: how long the comparison takes must not say how much of a guess is right.
        same = hmac.compare_digest(given.strip(b" \t"), self._token)
        if scheme.lower() != b"bearer" or not same:
            logger.warning("%s %s refused: no token, or not ours", request.method, request.url.path)
            request.state.headers = {"www-authenticate": CHALLENGE}
            raise UnauthorizedError("authorization: must be Bearer and the admin token")
