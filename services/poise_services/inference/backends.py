"""The clients of all configured backends, by name."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Self

from poise.errors import UnavailableError
from poise.telemetry import observe, semconv
from poise.telemetry.metrics import Measurement
from poise.telemetry.semconv import Gauge
from poise_services.inference.model_client import ModelClient
from poise_services.inference.settings import InferenceSettings

_GAUGES: Final[dict[Gauge, Callable[[ModelClient], float | None]]] = {
    semconv.BACKEND_IN_FLIGHT: lambda client: client.limiter.in_use,
    semconv.BACKEND_WAITING: lambda client: client.limiter.waiting,
    semconv.BACKEND_UP: lambda client: client.up,
}


class Backends:
    """All clients; use it with `async with`, which closes their connections and unregisters their gauges.

    A backend that is down does not make the worker unready: others may be up, and callers have fallbacks.
    """

    def __init__(self, settings: InferenceSettings) -> None:
        self._clients = {name: ModelClient(name, backend) for name, backend in settings.backends.items()}
        self._exit_stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients.values():
            await self._exit_stack.enter_async_context(client)
        for gauge, read in _GAUGES.items():
            self._exit_stack.callback(observe(gauge, self._measurements(read)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit_stack.aclose()

    def get(self, name: str) -> ModelClient:
        """Return the client of a backend.

        Raises:
            UnavailableError: It is not configured.
        """
        client = self._clients.get(name)
        if client is None:
            known = ", ".join(self._clients)
            raise UnavailableError(f"there is no backend {name!r}, only {known}: see POISE_INFERENCE_BACKENDS")
        return client

    def _measurements(self, read: Callable[[ModelClient], float | None]) -> Callable[[], list[Measurement]]:
        return lambda: [
            (value, {semconv.BACKEND: client.name})
            for client in self._clients.values()
            if (value := read(client)) is not None
        ]
