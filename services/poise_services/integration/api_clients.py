"""The clients of all configured integrations, by name."""

import time
from contextlib import AsyncExitStack
from typing import Self

from poise.telemetry import observe, semconv
from poise_services.integration.api_client import ApiClient
from poise_services.integration.api_errors import UnknownIntegrationError
from poise_services.integration.settings import IntegrationSettings


class ApiClients:
    """All clients; use it with `async with`, which closes their connections and unregisters their gauge.

    An API that is down does not make the worker unready: others may be up, and callers continue without it.
    """

    def __init__(self, settings: IntegrationSettings) -> None:
        self._clients = {name: ApiClient(name, api) for name, api in settings.integrations.items()}
        self._exit_stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients.values():
            await self._exit_stack.enter_async_context(client)
        self._exit_stack.callback(observe(semconv.INTEGRATION_OPEN, self._open_gauge))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit_stack.aclose()

    def get(self, name: str) -> ApiClient:
        """Return the client of an integration.

        Raises:
            UnknownIntegrationError: It is not configured.
        """
        client = self._clients.get(name)
        if client is None:
            known = ", ".join(self._clients)
            raise UnknownIntegrationError(
                f"there is no integration {name!r}, only {known}: see POISE_INTEGRATION_INTEGRATIONS"
            )
        return client

    def _open_gauge(self) -> list[tuple[float, dict[str, str | int | float | bool]]]:
        now = time.monotonic()
        return [
            (float(client.breaker.state(now) != "closed"), {semconv.INTEGRATION: client.name})
            for client in self._clients.values()
        ]
