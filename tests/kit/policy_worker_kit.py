"""Policy workers, answers of two variants, and the resulting logs, for tests of the policy worker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from decider_kit import score_of
from integration_kit import until

from poise.contracts.policy import Decision, Limits, Policy, PolicyCommand, PolicySpec, PolicyState
from poise.contracts.topics import COMMANDS, DECISIONS, POLICY, POLICY_STATE, SCORES
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings

WITHIN = 30.0
STEPS = 9
"""Steps of the move away from a variant."""


@asynccontextmanager
async def worker(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run a policy worker; yield once it is ready."""
    async with WorkerRuntime(settings, tier="evaluation") as mesh, policy_worker(mesh, EvaluationSettings()):
        await until(lambda: mesh.readiness()["deciding"])
        yield mesh


@dataclass
class LosingVariantCase:
    """A separate policy with one bad variant, whose weight decreases in nine steps, five answers apart."""

    mesh: WorkerRuntime
    name: str = field(default_factory=lambda: f"p-{uuid4().hex[:8]}")
    runs: int = 0
    """The number of distinct runs that were scored."""

    def spec(self, **limits: Any) -> PolicySpec:
        return PolicySpec(
            name=self.name,
            weights={"steady": 1, "cheap": 1},
            limits=Limits(
                **{"min_share": 0.05, "step": 0.05, "cooldown_answers": 5, "mean_answers_between_false_alarms": 100}
                | limits
            ),
        )

    async def ask(self, action: Any, **given: Any) -> str:
        """Send a command and return its id."""
        id_ = uuid4().hex
        command = PolicyCommand(id=id_, action=action, by="jane", **given)
        await self.mesh.producer.publish(COMMANDS, command, key=self.name)
        return id_

    async def answers(self, count: int, *, times: int = 1) -> None:
        """Publish scores of a number of answers of each variant, each repeatedly; all of `cheap` are wrong."""
        first, self.runs = self.runs, self.runs + 2 * count
        for number in range(first, self.runs):
            variant = "cheap" if number % 2 else "steady"
            at = float(number)
            score = score_of(
                f"{self.name}-{number}", variant, good=variant == "steady", policy=self.name, policy_version=0, at=at
            )
            for _ in range(times):
                await self.mesh.producer.publish(SCORES, score, key=self.name)

    # -- the results ----------------------------------------------------------------------------------------------

    async def decisions(self) -> list[Decision]:
        return [
            Decision.parse(record.value or b"") for record in await self.mesh.logs.read_key(DECISIONS.name, self.name)
        ]

    async def policies(self) -> list[Policy]:
        return [Policy.parse(record.value or b"") for record in await self.mesh.logs.read_key(POLICY.name, self.name)]

    async def states(self) -> list[PolicyState]:
        records = await self.mesh.logs.read_key(POLICY_STATE.name, self.name)
        return [PolicyState.parse(record.value or b"") for record in records]

    async def until_decided(self, count: int) -> list[Decision]:
        """Wait until this number of decisions has been made."""
        async with asyncio.timeout(WITHIN):
            while len(made := await self.decisions()) < count:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.05)
        return made

    async def until_counted(self) -> None:
        """Wait until all answers have been counted: each command causes a snapshot, which has the count."""
        async with asyncio.timeout(WITHIN):
            while not (states := await self.states()) or states[-1].decider["counted"] != self.runs:
                id_ = await self.ask("hold")
                while all(made.command != id_ for made in await self.decisions()):  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.05)

    async def check(self) -> list[Decision]:
        """Check that the policy is consistent and that each answer counted once; return the decisions."""
        await self.until_counted()
        decisions, policies = await self.decisions(), await self.policies()
        assert [made.id for made in decisions] == [f"{self.name}-{number}" for number in range(1, len(decisions) + 1)]
        acted = [made for made in decisions if made.acted]
        assert [made.version for made in acted] == list(range(1, len(acted) + 1))
        assert chain(decisions) == [], decisions
        assert [(kept.version, kept.decision) for kept in policies] == [(made.version, made.id) for made in acted]
        assert policies[-1].weights == acted[-1].after
        counted = [int(str(state.decider["counted"])) for state in await self.states()]
        assert counted == sorted(counted)
        return decisions


def chain(decisions: Sequence[Decision]) -> list[str]:
    """Return the ids of decisions whose weights before them are not those after the previous decision."""
    broken, weights = [], dict[str, float]()
    for made in decisions:
        if made.before != weights:
            broken.append(made.id)
        weights = made.after if made.acted else weights
    return broken
