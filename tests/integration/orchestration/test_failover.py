"""Failover on a real Kafka, with the real inference tier and real HTTP servers that count requests."""

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest
from integration_kit import serving
from model_kit import FakeModelServer, completion, error_response

from poise.contracts import Answer, Ask, Passage, Passages, Retrieve, RunRecord
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import RECORDS
from poise.resilience.breaker import BreakerLimits
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.inference.backends import Backends
from poise_services.inference.handlers import handlers as inference_handlers
from poise_services.inference.settings import InferenceSettings
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

pytestmark = pytest.mark.integration

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
OTHERS = "The lamp of Harrow Point was lit by the keeper Ada Quill."
ASK = Ask(question="Who lit the lamp of Harrow Point?")
FOUND = Passages(passages=(Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=1.0),), epoch="e1.AAAA")
CONTEXTS = {"big": 8_000, "small": 4_000, "huge": 200_000}


class FailoverMesh:
    """A client, the worker's breakers and their clock."""

    def __init__(self, client: WorkerRuntime, breakers: Breakers, clock: list[float]) -> None:
        self.client = client
        self.breakers = breakers
        self.clock = clock

    async def ask(self, within: float = 20.0) -> tuple[Answer, RunRecord]:
        """Ask; return the answer and the run record."""
        run = new_run_id(time.time(), Random())
        answer = await self.client.rpc.call(ASK, CallOptions(run=run, step="ask", deadline=time.time() + within))
        (record,) = await self.client.logs.read_key(RECORDS.name, run)
        return answer, RunRecord.parse(record.value or b"")


@asynccontextmanager
async def setting(
    settings: MeshSettings, models: Mapping[str, FakeModelServer], **limits: Any
) -> AsyncIterator[FailoverMesh]:
    """Run variants with one backend each; the first one is drawn, the others are for failover."""

    async def find(_: Retrieve, __: Context) -> Passages:
        return FOUND

    clock = [0.0]
    variants = [
        {"name": name, "backend": name, "weight": float(not place), "context_window": CONTEXTS[name]}
        for place, name in enumerate(models)
    ]
    orchestration = OrchestrationSettings.model_validate({"variants": variants, "ladder": {"max_failovers": 2}})
    breakers = Breakers(orchestration.variants, BreakerLimits(**limits), lambda: clock[0])
    async with AsyncExitStack() as stack:
        for model in models.values():
            await stack.enter_async_context(model.serving())
        urls = {name: {"url": model.url, "model": name} for name, model in models.items()}
        backends = await stack.enter_async_context(Backends(InferenceSettings.model_validate({"backends": urls})))
        for tier in (
            Tier("orchestration", handlers(orchestration, breakers=breakers)),
            Tier("retrieval", {Retrieve: find}),
            Tier("inference", inference_handlers(backends)),
        ):
            await stack.enter_async_context(serving(settings, tier))
        yield FailoverMesh(await stack.enter_async_context(WorkerRuntime(settings, tier="client")), breakers, clock)


async def test_a_failing_variant_is_skipped_until_a_probe_succeeds(
    mesh_settings: MeshSettings,
) -> None:
    big, small = FakeModelServer(error_response("503 Busy", "down")), FakeModelServer(completion(OTHERS))
    async with setting(mesh_settings, {"big": big, "small": small}, min_calls=2, open_for=30.0) as here:
        for number in range(2):
            answer, record = await here.ask()
            assert (answer.text, answer.rung, answer.variant) == (OTHERS, "variant", "small")
            assert (answer.reason or "").startswith("big failed")
            assert big.request_count > number, "inference has tried it, more than once"
            assert record.draw is not None
            assert (record.draw.variant, record.draw.skipped) == ("big", None)
        assert here.breakers.states() == {"big": "open", "small": "closed"}

        asked = big.request_count
        for _ in range(3):
            answer, record = await here.ask()
            assert (answer.rung, answer.variant) == ("variant", "small")
            assert (answer.reason or "").startswith("big is skipped, it failed lately: backend big ")
            assert "503" in (answer.reason or ""), "it says what it failed with"
            assert record.draw is not None
            assert (record.draw.variant, record.draw.skipped) == ("big", answer.reason)
        assert big.request_count == asked, "its breaker is open"

        here.clock[0] += 30.0
        big.answer = completion(SENTENCE)
        answer, _ = await here.ask()
        assert (answer.text, answer.rung, answer.reason) == (SENTENCE, "primary", None)
        assert big.request_count == asked + 1
        assert here.breakers.states()["big"] == "closed"


async def test_a_hanging_variant_leaves_time_for_another(mesh_settings: MeshSettings) -> None:
    big, small = FakeModelServer(None), FakeModelServer(completion(OTHERS))
    async with setting(mesh_settings, {"big": big, "small": small}, min_calls=1) as here:
        answer, _ = await here.ask(within=6.0)  # otherwise it is a fault instead of an answer
        assert (answer.rung, answer.variant) == ("variant", "small")
        assert here.breakers.states()["big"] == "open"
        await here.ask(within=6.0)
        assert (big.request_count, small.request_count) == (1, 2)


async def test_a_long_rate_limit_fails_over_at_once(mesh_settings: MeshSettings) -> None:
    big = FakeModelServer(error_response("429 Slow", "rate_limit_exceeded"), headers=("retry-after: 60",))
    small = FakeModelServer(completion(OTHERS))
    async with setting(mesh_settings, {"big": big, "small": small}) as here:
        for _ in range(2):
            answer, _ = await here.ask()
            assert (answer.rung, answer.variant) == ("variant", "small")
        assert (big.request_count, small.request_count) == (1, 2)
        here.clock[0] += 59.0
        await here.ask()
        assert big.request_count == 1
        here.clock[0] += 1.0
        await here.ask()
        assert big.request_count == 2


async def test_a_prompt_too_long_goes_to_a_variant_with_a_larger_context(mesh_settings: MeshSettings) -> None:
    big, small, huge = (
        FakeModelServer(error_response("400 No", "context_length_exceeded")),
        FakeModelServer(completion(OTHERS)),
        FakeModelServer(completion(OTHERS)),
    )
    async with setting(mesh_settings, {"big": big, "small": small, "huge": huge}, min_calls=1) as here:
        answer, _ = await here.ask()
        assert (answer.rung, answer.variant) == ("variant", "huge")
        assert (big.request_count, small.request_count, huge.request_count) == (1, 0, 1)
        assert here.breakers.states()["big"] == "closed"


async def test_a_filtered_prompt_goes_to_no_other_variant(mesh_settings: MeshSettings) -> None:
    big, small, huge = (
        FakeModelServer(error_response("400 No", "content_filter")),
        FakeModelServer(completion(OTHERS)),
        FakeModelServer(completion(OTHERS)),
    )
    async with setting(mesh_settings, {"big": big, "small": small, "huge": huge}, min_calls=1) as here:
        answer, record = await here.ask()
        assert (answer.rung, answer.text) == ("extractive", SENTENCE)
        assert [(g.variant, g.fault) for g in record.generations] == [("big", "urn:poise:content-filtered")]
        assert (big.request_count, small.request_count, huge.request_count) == (1, 0, 0)
        assert here.breakers.states()["big"] == "closed"


async def test_with_all_variants_down_the_answer_is_extractive(
    mesh_settings: MeshSettings,
) -> None:
    big, small = (
        FakeModelServer(error_response("503 Busy", "down")),
        FakeModelServer(error_response("503 Busy", "down")),
    )
    async with setting(mesh_settings, {"big": big, "small": small}, min_calls=1) as here:
        for _ in range(2):
            answer, _ = await here.ask()
            assert (answer.rung, answer.text) == ("extractive", SENTENCE)
        told = r"(big|small) is skipped, it failed lately: backend \1 .*503.*"
        assert all(re.fullmatch(told, reason) for reason in (answer.reason or "").split("; "))


class UnreachableModelServer(FakeModelServer):
    """A model server whose port refuses connections."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeModelServer"]:
        async with super().serving():
            pass
        yield self


async def test_no_reply_has_the_models_addresses(mesh_settings: MeshSettings) -> None:
    models = {"big": UnreachableModelServer(completion(OTHERS)), "small": FakeModelServer(None)}
    async with setting(mesh_settings, models) as mesh:
        address = models["small"].url.removeprefix("http://")
        models["small"].answer = "502 Bad", {"error": {"message": f"upstream http://{address}/v1 refused"}}
        answer, record = await mesh.ask()
    assert answer.rung == "extractive"
    assert "backend big gave no answer: ConnectError" in (answer.reason or "")
    assert "upstream http://(address)/v1 refused" in (answer.reason or "")
    for said in (answer.encode().decode(), record.encode().decode()):
        assert "127.0.0.1" not in said
        assert not [model for model in models.values() if model.url.rpartition(":")[2] in said]
