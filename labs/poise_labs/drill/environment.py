"""The ground: a mesh of its own with two models and an integration, whose parts can be taken down."""

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
from poise.stack.options import ONE_OF_EACH, Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.drill.fake_api import FakeApi

SECOND: Final = "second"
BOARD: Final = "notices"
VARIANTS: Final = ({"name": "first", "backend": "default"}, {"name": "second", "backend": SECOND, "weight": 0})
"""Both are the same model, served by two servers: what differs between rows is what fails, not who writes."""


class DrillEnvironment:
    """Where the drill takes place; `async with Ground(directory, documents) as ground`.

    Args:
        directory: An empty folder for its data and logs.
        documents: The corpus, by id.
        on_event: Called with each event to its parts.

    Raises:
        SetupError: A part cannot be started.
    """

    def __init__(
        self, directory: Path, documents: Mapping[str, Document], *, on_event: EventListener = ignore_event
    ) -> None:
        self.documents = documents
        self.board = FakeApi()
        self.second = ModelServer(directory / "second")
        self.epoch = Epoch("unknown")
        """The epoch at which the index knows all of the corpus."""
        self._directory = directory
        self._on_event = on_event
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.board)
            await stack.enter_async_context(self.second)
            options = StackOptions(
                self._directory, workers=ONE_OF_EACH, ports=Ports(gateway=0), environment=self._variables()
            )
            self.stack = await stack.enter_async_context(Stack(options, on_event=self._on_event))
            settings = MeshSettings.load().model_copy(update={"broker": self.stack.broker})
            self.poise = await stack.enter_async_context(Poise(settings=settings))
            await self.know(self.documents)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def know(self, documents: Mapping[str, Document]) -> None:
        """Have documents in the corpus, anew where they are there already."""
        self.epoch = await self.poise.ingest(documents)

    def _variables(self) -> Mapping[str, str]:
        return {
            "POISE_INFERENCE_BACKENDS": json.dumps({SECOND: self.second.backend}),
            "POISE_ORCHESTRATION_VARIANTS": json.dumps(VARIANTS),
            "POISE_INTEGRATION_INTEGRATIONS": json.dumps({BOARD: {"url": self.board.url, "pointer": "/notices"}}),
        }

    # -- what can fail ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def without(self, *parts: str) -> AsyncIterator[None]:
        """Parts of the stack are down, by the names that `poise status` shows."""
        for part in parts:
            await self.stack.stop_part(part)
        try:
            yield
        finally:
            for part in reversed(parts):
                await self.stack.start_part(part)

    @asynccontextmanager
    async def without_models(self) -> AsyncIterator[None]:
        """No model answers."""
        async with self.without("model"):
            await self.second.stop()
            try:
                yield
            finally:
                await self.second.start()

    @asynccontextmanager
    async def consulting(self, *, empty: bool = False) -> AsyncIterator[None]:
        """An integration is consulted for each answer.

        Args:
            empty: It answers 200 with nothing in it.
        """
        self.board.empty = empty
        integrations = {"POISE_ORCHESTRATION_INTEGRATIONS": json.dumps([BOARD])}
        await self.stack.restart_part("orchestration-1", environment=integrations)
        try:
            yield
        finally:
            await self.stack.restart_part("orchestration-1")

    @asynccontextmanager
    async def without_the_integration(self) -> AsyncIterator[None]:
        """The integration that is consulted has no worker."""
        async with self.consulting(), self.without("integration-1"):
            yield
