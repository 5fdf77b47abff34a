"""The lab's environment: a temporary mesh with scripted models; all other parts are real."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from poise.client import Poise
from poise.contracts.policy import Decision, PolicyCommand
from poise.errors import UnavailableError
from poise.policy import control
from poise.settings import MeshSettings
from poise.stack.events import EventListener, ignore_event
from poise.stack.options import Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.lab.backend import ScriptedBackend
from poise_labs.lab.questions import LabQuestion, lab_corpus
from poise_labs.lab.scenario import Scenario

WORKERS: Final = {"orchestration": 1, "retrieval": 1, "inference": 1, "evaluation": 1}
CONCURRENCY: Final = 256
"""Concurrent requests of a scripted backend, so that a slow one does not queue others."""
DECISION_TIMEOUT: Final = 60.0
LAB: Final = "lab"
INDEX_TIMEOUT: Final = 120.0


class LabEnvironment:
    """The mesh of the lab; `async with LabEnvironment(…) as environment`.

    Args:
        directory: An empty directory for its data and logs.
        scenario: The scenario.
        questions: The question of each ask, in order.
        seed: The seed of the scripted answers.
        on_event: Called with each event of the stack.

    Raises:
        SetupError: A part cannot be started.
    """

    def __init__(
        self,
        directory: Path,
        scenario: Scenario,
        questions: Sequence[LabQuestion],
        seed: int,
        *,
        on_event: EventListener = ignore_event,
    ) -> None:
        self.scenario = scenario
        self.backend = ScriptedBackend(scenario, questions, seed)
        self._directory = directory
        self._on_event = on_event
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.backend)
            options = StackOptions(self._directory, workers=WORKERS, ports=Ports(), environment=self._variables())
            self.stack = await stack.enter_async_context(Stack(options, on_event=self._on_event))
            settings = MeshSettings.load().model_copy(update={"broker": self.stack.broker})
            self.poise = await stack.enter_async_context(Poise(settings=settings))
            epoch = await self.poise.ingest(lab_corpus().documents)
            await self.poise.ask("Who keeps a lamp?", timeout=INDEX_TIMEOUT, min_epoch=epoch, cache="no-store")
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def follow(self, policy: str) -> None:
        """Restart orchestration with another policy, which also resets its breakers."""
        await self.stack.restart_part("orchestration-1", environment={"POISE_ORCHESTRATION_POLICY": policy})

    async def command(self, policy: str, command: PolicyCommand) -> Decision:
        """Send a command and return the decision on it.

        Raises:
            UnavailableError: There was no decision in time.
        """
        mesh = self.poise.mesh
        try:
            return await control.send_and_wait(mesh.logs, mesh.producer, policy, command, within=DECISION_TIMEOUT)
        except UnavailableError as error:
            raise UnavailableError(f"{error}; see {self._directory / 'logs' / 'evaluation-1.log'}") from error

    def _variables(self) -> Mapping[str, str]:
        backends = {
            variant.name: {"url": self.backend.url_of(variant.name), "model": variant.name, "concurrency": CONCURRENCY}
            for variant in self.scenario.variants
        }
        variants = [
            {"name": variant.name, "backend": variant.name, "weight": variant.weight}
            for variant in self.scenario.variants
        ]
        return {
            "POISE_INFERENCE_BACKENDS": json.dumps({**backends, "default": next(iter(backends.values()))}),
            "POISE_ORCHESTRATION_VARIANTS": json.dumps(variants),
            "POISE_CONCURRENCY": str(CONCURRENCY),
            "POISE_SPANS": "false",
        }
