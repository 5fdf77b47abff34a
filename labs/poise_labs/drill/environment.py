"""The drill's environment: a temporary mesh with two model servers and an integration, whose parts can be stopped."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

from poise.client import Poise
from poise.contracts.document import Document
from poise.contracts.epoch import Epoch
from poise.settings import MeshSettings
from poise.stack.events import EventListener, ignore_event
from poise.stack.model import ModelServer
from poise.stack.options import ONE_WORKER_PER_TIER, Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.drill.fake_api import FakeApi

SECOND_BACKEND: Final = "second"
INTEGRATION_NAME: Final = "notices"
VARIANTS: Final = ({"name": "first", "backend": "default"}, {"name": "second", "backend": SECOND_BACKEND, "weight": 0})
"""Both are the same model on two servers, so that rows differ in the failure, not in the model."""


class DrillEnvironment:
    """The mesh of a drill; `async with DrillEnvironment(directory, documents) as environment`.

    Args:
        directory: An empty directory for its data and logs.
        documents: The corpus, by id.
        on_event: Called with each event of the stack.

    Raises:
        SetupError: A part cannot be started.
    """

    def __init__(
        self, directory: Path, documents: Mapping[str, Document], *, on_event: EventListener = ignore_event
    ) -> None:
        self.documents = documents
        self.api = FakeApi()
        self.second = ModelServer(directory / "second")
        self.epoch = Epoch("unknown")
        """The epoch that includes the whole corpus."""
        self._directory = directory
        self._on_event = on_event
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.api)
            await stack.enter_async_context(self.second)
            options = StackOptions(
                self._directory, workers=ONE_WORKER_PER_TIER, ports=Ports(gateway=0), environment=self._variables()
            )
            self.stack = await stack.enter_async_context(Stack(options, on_event=self._on_event))
            settings = MeshSettings.load().model_copy(update={"broker": self.stack.broker})
            self.poise = await stack.enter_async_context(Poise(settings=settings))
            await self.ingest(self.documents)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def ingest(self, documents: Mapping[str, Document]) -> None:
        """Ingest documents; existing ones are replaced."""
        self.epoch = await self.poise.ingest(documents)

    def _variables(self) -> Mapping[str, str]:
        return {
            "POISE_INFERENCE_BACKENDS": json.dumps({SECOND_BACKEND: self.second.backend}),
            "POISE_ORCHESTRATION_VARIANTS": json.dumps(VARIANTS),
            "POISE_INTEGRATION_INTEGRATIONS": json.dumps(
                {INTEGRATION_NAME: {"url": self.api.url, "pointer": "/notices"}}
            ),
        }

    # -- failures -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def without(self, *parts: str) -> AsyncIterator[None]:
        """Stop parts of the stack, named as in `poise status`, within the context."""
        for part in parts:
            await self.stack.stop_part(part)
        try:
            yield
        finally:
            for part in reversed(parts):
                await self.stack.start_part(part)

    @asynccontextmanager
    async def without_models(self) -> AsyncIterator[None]:
        """Stop both model servers within the context."""
        async with self.without("model"):
            await self.second.stop()
            try:
                yield
            finally:
                await self.second.start()

    @asynccontextmanager
    async def with_integration(self, *, empty: bool = False) -> AsyncIterator[None]:
        """Let each answer query the integration within the context.

        Args:
            empty: The API returns 200 with empty content.
        """
        self.api.empty = empty
        integrations = {"POISE_ORCHESTRATION_INTEGRATIONS": json.dumps([INTEGRATION_NAME])}
        await self.stack.restart_part("orchestration-1", environment=integrations)
        try:
            yield
        finally:
            await self.stack.restart_part("orchestration-1")

    @asynccontextmanager
    async def without_integration_worker(self) -> AsyncIterator[None]:
        """Stop the integration worker, while each answer queries the integration."""
        async with self.with_integration(), self.without("integration-1"):
            yield
