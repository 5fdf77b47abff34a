"""The act on a real Kafka with real decisions; who answers is made up, and is as good as what was deployed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from decider_kit import score_of
from integration_kit import another
from policy_worker_kit import worker

from poise.contracts.topics import SCORES
from poise.errors import UnavailableError
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_labs.balance.environment import SECOND, STEADY, policy_spec
from poise_labs.balance.load import LoadGenerator
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.scenario import BalancePlan, BalanceScenario
from poise_labs.balance.summary import summary
from poise_labs.balance.timeline import Timeline

pytestmark = pytest.mark.integration


@dataclass
class Stage:
    """Two variants that answer at once, scored at once: the second as badly as it was deployed."""

    mesh: WorkerRuntime
    watching: BalanceObserver
    policy: str
    fault: float = 0.0
    deployed: list[float] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(5))

    async def deploy(self, without_passages: float) -> None:
        self.fault = without_passages
        self.deployed.append(without_passages)

    async def ask(self, _: str) -> None:
        share = self.watching.history.share(SECOND)
        second = self.chance.random() < share
        variant = SECOND if second else STEADY
        good = not (second and self.chance.random() < self.fault)
        score = score_of(uuid4().hex, variant, good=good, policy=self.policy, policy_version=0, at=time.time())
        score = score.model_copy(update={"probability": share if second else 1 - share})
        await self.mesh.producer.publish(SCORES, score, key=self.policy)


@pytest.fixture
async def stage(mesh_settings: MeshSettings) -> AsyncIterator[Stage]:
    policy, now = f"p-{uuid4().hex[:8]}", time.time()
    async with (
        worker(mesh_settings),
        WorkerRuntime(another(mesh_settings), tier="cli") as mesh,
        BalanceObserver(mesh, Timeline((STEADY, SECOND), now, now), policy) as watching,
    ):
        yield Stage(mesh, watching, policy)


def act(stage: Stage, plan: BalancePlan) -> BalanceScenario:
    stream = LoadGenerator(stage.ask, ["Why?", "How?"])
    return BalanceScenario(stage.mesh, stage.watching, stream, policy_spec(stage.policy), stage.deploy, plan)


async def test_the_trouble_is_noticed_and_the_variant_earns_its_way_back(stage: Stage) -> None:
    await act(stage, BalancePlan(calm=30, patience=2_000, recovery=4_000, end=1)).play()
    history = stage.watching.history
    assert stage.deployed == [0.0, 0.7, 0.0]
    assert [mark.kind for mark in history.marks] == ["set", "trouble", "noticed", "fixed", "back"]
    assert [decision.action for decision in stage.watching.decisions] == ["set", "roll back", "promote"]
    assert history.share(SECOND) == pytest.approx(0.5)
    assert min(shares.of[SECOND] for shares in history.shares) == pytest.approx(0.2)
    assert "second earned its way back" in history.story
    assert [line.split()[0] for line in summary(history, stage.watching.decisions, failed=0)] == [
        "Trouble",
        "Noticed",
        "Moved",
        "Back",
        "All",
    ]


async def test_without_trouble_nothing_moves(stage: Stage) -> None:
    await act(stage, BalancePlan(calm=30, patience=200, recovery=200, trouble=False)).play()
    history = stage.watching.history
    assert stage.deployed == [0.0]
    assert [decision.action for decision in stage.watching.decisions] == ["set"]
    assert {shares.of[SECOND] for shares in history.shares} == {0.5}
    assert history.story.endswith("no weight moved.")


async def test_what_is_not_noticed_in_time_is_said(stage: Stage) -> None:
    await act(stage, BalancePlan(calm=5, patience=5)).play()
    assert stage.watching.history.headline == "Not noticed"
    assert "within 5 answers" in stage.watching.history.story


async def test_when_nothing_answers_any_more_the_act_ends_with_that(stage: Stage) -> None:
    playing = act(stage, BalancePlan(calm=10_000))

    async def ask(_: str) -> None:
        if len(stage.watching.history.answers) > 5:
            raise UnavailableError("the model is away")
        await stage.ask("Why?")

    playing.stream._ask = ask
    async with asyncio.timeout(60):
        with pytest.raises(UnavailableError, match="in a row brought no answer, the last: the model is away"):
            await playing.play()


async def test_a_score_is_waited_for_but_not_for_ever(stage: Stage) -> None:
    waiting = asyncio.create_task(stage.watching.scored("run-7", seconds=60))
    score = score_of("run-7", STEADY, policy=stage.policy, policy_version=0)
    await stage.mesh.producer.publish(SCORES, score.model_copy(update={"values": {}}), key=stage.policy)
    assert await waiting, "also one that says nothing of the quality"
    assert not await stage.watching.scored("run-8", seconds=0.01)


async def test_the_evidence_against_it_is_told_while_it_grows(stage: Stage) -> None:
    playing = asyncio.create_task(act(stage, BalancePlan(calm=10_000)).play())
    history = stage.watching.history
    async with asyncio.timeout(60):
        assert await stage.watching.until(lambda seen: seen.evidence is not None, answers=100_000)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    assert history.evidence is not None
    assert history.evidence.threshold == pytest.approx(10_500)
    assert not history.evidence.recovery
