"""The balance act on a real Kafka with real decisions. The answers are made up, as good as the set fault allows."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from decider_kit import score_of
from integration_kit import settings_for_another_process
from policy_worker_kit import worker

from poise.contracts.topics import SCORES
from poise.errors import UnavailableError
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_labs.balance.environment import FAULTY, STEADY, policy_spec
from poise_labs.balance.load import LoadGenerator
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.scenario import BalancePlan, BalanceScenario
from poise_labs.balance.summary import summary_lines
from poise_labs.balance.timeline import Timeline

pytestmark = pytest.mark.integration


@dataclass
class Stage:
    """Two variants with immediate scores; the second has the current fault."""

    mesh: WorkerRuntime
    observer: BalanceObserver
    policy: str
    fault: float = 0.0
    faults: list[float] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(5))

    def set_fault(self, share: float) -> None:
        self.fault = share
        self.faults.append(share)

    async def ask(self, _: str) -> None:
        share = self.observer.timeline.share(FAULTY)
        second = self.chance.random() < share
        variant = FAULTY if second else STEADY
        good = not (second and self.chance.random() < self.fault)
        score = score_of(uuid4().hex, variant, good=good, policy=self.policy, policy_version=0, at=time.time())
        score = score.model_copy(update={"probability": share if second else 1 - share})
        await self.mesh.producer.publish(SCORES, score, key=self.policy)


@pytest.fixture
async def stage(mesh_settings: MeshSettings) -> AsyncIterator[Stage]:
    policy, now = f"p-{uuid4().hex[:8]}", time.time()
    async with (
        worker(mesh_settings),
        WorkerRuntime(settings_for_another_process(mesh_settings), tier="cli") as mesh,
        BalanceObserver(mesh, Timeline((STEADY, FAULTY), now, now), policy) as observer,
    ):
        yield Stage(mesh, observer, policy)


def act(stage: Stage, plan: BalancePlan) -> BalanceScenario:
    load = LoadGenerator(stage.ask, ["Why?", "How?"])
    return BalanceScenario(stage.mesh, stage.observer, load, policy_spec(stage.policy), stage.set_fault, plan)


async def test_a_fault_is_noticed_and_the_weight_is_restored_after_it(stage: Stage) -> None:
    await act(stage, BalancePlan(before_fault=30, until_noticed=2_000, until_restored=4_000, after_restored=1)).run()
    timeline = stage.observer.timeline
    assert stage.faults == [0.7, 0.0]
    assert [mark.kind for mark in timeline.events] == ["set", "fault", "noticed", "fault_fixed", "restored"]
    assert [decision.action for decision in stage.observer.decisions] == ["set", "roll back", "promote"]
    assert timeline.share(FAULTY) == pytest.approx(0.5)
    assert min(point.shares[FAULTY] for point in timeline.weights) == pytest.approx(0.2)
    assert "its share is restored" in timeline.story
    assert [line.split()[0] for line in summary_lines(timeline, stage.observer.decisions, failed=0)] == [
        "Fault",
        "Noticed",
        "Decreased",
        "Restored",
        "Total",
    ]


async def test_without_a_fault_no_weight_moves(stage: Stage) -> None:
    await act(stage, BalancePlan(before_fault=30, until_noticed=200, until_restored=200, fault=False)).run()
    timeline = stage.observer.timeline
    assert stage.faults == []
    assert [decision.action for decision in stage.observer.decisions] == ["set"]
    assert {point.shares[FAULTY] for point in timeline.weights} == {0.5}
    assert timeline.story.endswith("no weight moved.")


async def test_a_fault_that_is_not_noticed_ends_the_act(stage: Stage) -> None:
    await act(stage, BalancePlan(before_fault=5, until_noticed=5)).run()
    assert stage.observer.timeline.headline == "Not noticed"
    assert "within 5 answers" in stage.observer.timeline.story


async def test_failing_asks_end_the_act_with_their_error(stage: Stage) -> None:
    running = act(stage, BalancePlan(before_fault=10_000))

    async def ask(_: str) -> None:
        if len(stage.observer.timeline.answers) > 5:
            raise UnavailableError("the model is away")
        await stage.ask("Why?")

    running.load._ask = ask
    async with asyncio.timeout(60):
        with pytest.raises(UnavailableError, match="in a row failed, the last: the model is away"):
            await running.run()


async def test_waiting_for_a_score_ends_at_the_timeout(stage: Stage) -> None:
    waiting = asyncio.create_task(stage.observer.scored("run-7", seconds=60))
    score = score_of("run-7", STEADY, policy=stage.policy, policy_version=0)
    await stage.mesh.producer.publish(SCORES, score.model_copy(update={"values": {}}), key=stage.policy)
    assert await waiting, "also one that says nothing of the quality"
    assert not await stage.observer.scored("run-8", seconds=0.01)


async def test_the_timeline_has_the_evidence_while_it_grows(stage: Stage) -> None:
    running = asyncio.create_task(act(stage, BalancePlan(before_fault=10_000)).run())
    timeline = stage.observer.timeline
    async with asyncio.timeout(60):
        assert await stage.observer.until(lambda seen: seen.evidence is not None, answers=100_000)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert timeline.evidence is not None
    assert timeline.evidence.threshold == pytest.approx(10_500)
    assert not timeline.evidence.recovery
