"""A workflow as the handler of a custom tier: retried, changed while it runs, and redriven as a dead letter."""

from uuid import uuid4

import pytest
from integration_kit import serving, until

from poise import Poise, Run, workflow
from poise.contracts import Message, Request
from poise.contracts.envelope import Envelope
from poise.contracts.topics import dead_letter_topic_name
from poise.errors import FaultError, RetryableError
from poise.settings import MeshSettings
from poise.worker.tier import Tier
from poise.workflows.workflow import Workflow

pytestmark = pytest.mark.integration


class Planned(Message):
    kind = "planned/1"
    steps: list[str]


class Plan(Request[Planned]):
    kind = "plan/1"
    reply = Planned
    tier = "plans"
    fails: int


class Planning:
    """A workflow that fails a number of times, and counts its steps."""

    def __init__(self, version: int = 1, *, changes: bool = False) -> None:
        self.done: list[str] = []
        self.failed = 0
        self.workflow: Workflow[Plan, Planned] = workflow("plan", version=version)(self.plan)
        self._changes = changes

    async def plan(self, run: Run, request: Plan) -> Planned:
        first = "other" if self._changes and self.failed else "first"
        result = await run.step(first, self.do, first)
        await run.step("flaky", self.fail, request.fails)
        return Planned(steps=[result, await run.step("last", self.do, "last")])

    async def do(self, name: str) -> str:
        self.done.append(name)
        return f"{name} {len(self.done)}"

    async def fail(self, times: int) -> None:
        if self.failed < times:
            self.failed += 1
            raise RetryableError("not yet")


async def test_a_retried_run_replays_its_finished_steps(mesh_settings: MeshSettings) -> None:
    planning = Planning()
    async with (
        serving(mesh_settings, Tier("plans", {Plan: planning.workflow})),
        Poise(mesh_settings.broker) as poise,
    ):
        planned = await poise.call(Plan(fails=2))
    assert planned.steps == ["first 1", "last 2"]
    assert (planning.done, planning.failed) == (["first", "last"], 2)


async def test_without_redis_a_run_starts_over(mesh_settings: MeshSettings) -> None:
    planning = Planning()
    settings = mesh_settings.model_copy(update={"redis_url": None})
    async with serving(settings, Tier("plans", {Plan: planning.workflow})), Poise(settings.broker) as poise:
        assert (await poise.call(Plan(fails=2))).steps == ["first 3", "last 4"]


async def test_a_non_deterministic_run_is_dead_lettered_and_can_be_redriven(mesh_settings: MeshSettings) -> None:
    planning, run = Planning(changes=True), uuid4().hex
    tier = Tier("plans", {Plan: planning.workflow})
    async with serving(mesh_settings, tier) as mesh, Poise(mesh_settings.broker) as poise:
        with pytest.raises(FaultError, match=r"plan version 1. .*step plan.first-.* is next .* plan.other-"):
            await poise.call(Plan(fails=1), run=run)
        dead_letters = await mesh.logs.read_topic(dead_letter_topic_name("plans"))
        assert [
            dead_letter.header("poise-step") for dead_letter in dead_letters if dead_letter.header("poise-run") == run
        ] == ["plan"]
        redriven = Envelope(run=run, step="plan", tenant=mesh_settings.tenant, redrives=1)
        await mesh.producer.publish(tier.topics[0], Plan(fails=1), key=run, envelope=redriven)
        await until(lambda: planning.done == ["first", "other", "last"])


async def test_a_new_version_starts_over(mesh_settings: MeshSettings) -> None:
    run = uuid4().hex
    old = Planning()
    async with serving(mesh_settings, Tier("plans", {Plan: old.workflow})), Poise(mesh_settings.broker) as poise:
        with pytest.raises(FaultError, match="not yet"):
            await poise.call(Plan(fails=99), run=run)
    new = Planning(version=2, changes=True)
    new.failed = 1
    async with serving(mesh_settings, Tier("plans", {Plan: new.workflow})), Poise(mesh_settings.broker) as poise:
        assert (await poise.call(Plan(fails=1), run=run)).steps == ["other 1", "last 2"]
    assert old.done == ["first"]
