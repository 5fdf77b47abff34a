"""The answer workflow on a real Kafka, between tiers that answer from a script."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest
from integration_kit import serving

from poise.contracts import Answer, Ask, Completion, Delta, Generate, Passage, Passages, Reset, Retrieve, RunRecord
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import RECORDS
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

pytestmark = pytest.mark.integration

EPOCH = "e1.AAAA.0~1~1000"
LATER = "e1.AAAA.0~2~2000"
SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
ASK = Ask(question="Who lit the lamp of Harrow Point?")
PASSAGE = Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=1.0)


@dataclass
class ScriptedTiers:
    """Scripted retrieval and inference tiers that record their requests."""

    asked: dict[str, Context] = field(default_factory=dict)
    writes: bool = True
    """Whether the model answers at all."""
    says: str = SENTENCE
    spare_says: str = SENTENCE
    """What the backend `spare` writes."""

    async def find(self, _: Retrieve, context: Context) -> Passages:
        self.asked[context.step] = context
        return Passages(passages=(PASSAGE,), epoch=LATER)

    async def write(self, request: Generate, context: Context) -> Completion:
        self.asked[context.step] = context
        says = self.spare_says if request.backend == "spare" else self.says
        if context.stream_writer is not None:
            for word in says.split(" "):
                await context.stream_writer.write(f" {word}")
        if not self.writes:
            await asyncio.Event().wait()
        return Completion(text=f" {says}", model="m", backend=request.backend, finish_reason="stop")


@asynccontextmanager
async def running_mesh(
    settings: MeshSettings, tiers: ScriptedTiers, orchestration: OrchestrationSettings | None = None
) -> AsyncIterator[WorkerRuntime]:
    """Run a worker of each tier that an answer needs; yield a client."""
    served = (
        Tier("orchestration", handlers(orchestration or OrchestrationSettings())),
        Tier("retrieval", {Retrieve: tiers.find}),
        Tier("inference", {Generate: tiers.write}),
    )
    async with AsyncExitStack() as stack:
        for tier in served:
            await stack.enter_async_context(serving(settings, tier))
        yield await stack.enter_async_context(WorkerRuntime(settings, tier="client"))


def new_run() -> str:
    return new_run_id(time.time(), Random())


async def test_each_step_carries_the_runs_identity_and_epoch(mesh_settings: MeshSettings) -> None:
    tiers, run = ScriptedTiers(), new_run()
    async with running_mesh(mesh_settings, tiers) as mesh:
        answer = await mesh.rpc.call(
            ASK, CallOptions(run=run, step="ask", tenant="acme", lane="batch", min_epoch=EPOCH)
        )
        (record,) = await mesh.logs.read_key(RECORDS.name, run)

    assert (answer.text, answer.rung, answer.epoch, answer.run_id) == (SENTENCE, "primary", LATER, run)
    assert {step: (asked.run, asked.tenant, asked.lane) for step, asked in tiers.asked.items()} == {
        "retrieve": (run, "acme", "batch"),
        "generate": (run, "acme", "batch"),
    }
    assert tiers.asked["retrieve"].envelope.min_epoch == EPOCH
    assert RunRecord.parse(record.value or b"").answer == answer


async def test_an_unresponsive_model_leaves_time_for_another_rung(mesh_settings: MeshSettings) -> None:
    async with running_mesh(mesh_settings, ScriptedTiers(writes=False)) as mesh:
        answer = await mesh.rpc.call(ASK, CallOptions(run=new_run(), step="ask", deadline=time.time() + 3))
    assert (answer.text, answer.rung) == (SENTENCE, "extractive")
    assert (answer.reason or "").startswith("the model failed")


async def test_a_redelivered_ask_gets_the_same_answer(mesh_settings: MeshSettings) -> None:
    tiers, run = ScriptedTiers(), new_run()
    async with running_mesh(mesh_settings, tiers) as mesh:
        first = await mesh.rpc.call(ASK, CallOptions(run=run, step="ask"))
        tiers.asked.clear()
        again = await mesh.rpc.call(ASK, CallOptions(run=run, step="ask"))
        records = await mesh.logs.read_key(RECORDS.name, run)
    assert again == first
    assert not tiers.asked
    assert len(records) == 1


async def read(mesh: WorkerRuntime, deadline: float | None = None) -> tuple[list[str], list[Reset], Answer]:
    """Ask for a stream; return the texts between its resets, the resets and the answer."""
    shown, resets = [""], []
    async for item in mesh.rpc.stream(ASK, CallOptions(run=new_run(), step="ask", deadline=deadline)):
        match item:
            case Delta(text=text):
                shown[-1] += text
            case Reset():
                resets.append(item)
                shown.append("")
            case Answer():
                return shown, resets, item
    raise AssertionError("no answer came")


async def test_the_models_tokens_are_streamed(mesh_settings: MeshSettings) -> None:
    tiers = ScriptedTiers()
    async with running_mesh(mesh_settings, tiers) as mesh:
        shown, resets, answer = await read(mesh)
        plain = await mesh.rpc.call(ASK, CallOptions(run=new_run(), step="ask"))
    assert ([text.strip() for text in shown], resets) == ([SENTENCE], [])
    assert (answer.text, answer.rung) == (plain.text, plain.rung) == (SENTENCE, "primary")
    assert tiers.asked["generate"].stream_writer is None  # of the second ask, which requested no stream


async def test_ungrounded_tokens_are_reset(mesh_settings: MeshSettings) -> None:
    made_up = "It was lit by Bruno Falk in 1902 with gas from Norway."
    async with running_mesh(mesh_settings, ScriptedTiers(says=made_up)) as mesh:
        shown, (reset,), answer = await read(mesh)
    assert [text.strip() for text in shown] == [made_up, SENTENCE]
    assert (answer.text, answer.rung) == (SENTENCE, "extractive")
    assert (reset.rung, reset.reason) == ("extractive", answer.reason)


async def test_the_tokens_of_an_interrupted_model_are_reset(mesh_settings: MeshSettings) -> None:
    async with running_mesh(mesh_settings, ScriptedTiers(writes=False)) as mesh:
        shown, (*_, reset), answer = await read(mesh, deadline=time.time() + 3)
    assert (shown[0].strip(), shown[-1]) == (SENTENCE, answer.text)
    assert (answer.rung, reset.rung) == ("extractive", "extractive")


TWO = OrchestrationSettings.model_validate(
    {"variants": [{"name": "small"}, {"name": "spare", "backend": "spare", "weight": 0}]}
)
MADE_UP = "It was lit by Bruno Falk in 1902 with gas from Norway."


async def test_a_failover_resets_the_first_variants_tokens(mesh_settings: MeshSettings) -> None:
    async with running_mesh(mesh_settings, ScriptedTiers(says=MADE_UP), TWO) as mesh:
        shown, (reset, *_), answer = await read(mesh)
    assert (shown[0].strip(), shown[-1].strip()) == (MADE_UP, SENTENCE)
    assert (answer.text, answer.rung, answer.variant) == (SENTENCE, "variant", "spare")
    assert (reset.rung, reset.reason) == ("variant", answer.reason)


async def test_the_tokens_of_two_rejected_variants_are_reset(mesh_settings: MeshSettings) -> None:
    async with running_mesh(mesh_settings, ScriptedTiers(says=MADE_UP, spare_says=f"{MADE_UP} Twice."), TWO) as mesh:
        shown, resets, answer = await read(mesh)
    assert (shown[0].strip(), shown[-1]) == (MADE_UP, SENTENCE)
    assert (answer.text, answer.rung) == (SENTENCE, "extractive")
    assert [reset.rung for reset in resets if reset.rung] == ["variant", "extractive"]
    assert resets[-1].reason == answer.reason
