"""Apis: the integrations of the settings, by name."""

import time
from contextlib import AsyncExitStack
from typing import Self

from poise.telemetry import observe, semconv
from poise_services.integration.api_client import ApiClient
from poise_services.integration.api_errors import UnknownIntegrationError
from poise_services.integration.settings import IntegrationSettings


class ApiClients:
    """All integrations: `async with` it to have their connections closed and their gauge taken away at the end.

    One that is down does not make the worker unready: others may be up, and who asks goes on without.
    """

    def __init__(self, settings: IntegrationSettings) -> None:
        self._clients = {name: ApiClient(name, api) for name, api in settings.integrations.items()}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for server in self._clients.values():
            await self._open.enter_async_context(server)
        self._open.callback(observe(semconv.INTEGRATION_OPEN, self._resting))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def get(self, name: str) -> ApiClient:
        """The integration of that name.

        Raises:
            UnknownIntegrationError: There is none.
        """
        server = self._clients.get(name)
        if server is None:
            known = ", ".join(self._clients)
            raise UnknownIntegrationError(
                f"there is no integration {name!r}, only {known}: see POISE_INTEGRATION_INTEGRATIONS"
            )
        return server

    def _resting(self) -> list[tuple[float, dict[str, str | int | float | bool]]]:
        now = time.monotonic()
        return [
            (float(server.breaker.state(now) != "closed"), {semconv.INTEGRATION: server.name})
            for server in self._clients.values()
        ]
