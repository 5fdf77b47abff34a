"""A reply, request or result that JSON cannot represent causes one fault that names the field, and no repeated work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from integration_kit import serving

from poise import Poise
from poise.contracts import Completion, Generate, Message, Request
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import dead_letter_topic_name
from poise.errors import EncodingError, FaultError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise.workflows.run import Run
from poise.workflows.workflow import workflow

pytestmark = pytest.mark.integration

TIER = f"odd-{uuid4().hex[:8]}"


class Priced(Message):
    kind: ClassVar[str] = "priced/1"

    text: str = ""
    price: float = 0.0
    receipt: Any = None


class Price(Request[Priced]):
    kind: ClassVar[str] = "price/1"
    reply: ClassVar[type[Priced]] = Priced
    tier: ClassVar[str] = TIER

    field: str
    argument: Any = None


class Unencodable:
    """An object that JSON cannot represent."""


UNENCODABLE: dict[str, Priced] = {
    "receipt": Priced(receipt=Unencodable()),
    "receipt.paid.1": Priced(receipt={"paid": (1, Unencodable())}),
    "text": Priced(text="half \ud800"),
    "price": Priced(price=float("nan")),
}


@asynccontextmanager
async def paying(settings: MeshSettings) -> AsyncIterator[tuple[Poise, WorkerRuntime, list[str]]]:
    """Run a tier that records each handled request; yield a client, the tier's runtime and the record."""
    paid: list[str] = []

    async def price(request: Price, context: Context) -> Priced:
        paid.append(request.field)
        if context.stream_writer is not None:
            await context.stream_writer.write("half \ud800")
        return UNENCODABLE[request.field]

    async with serving(settings, Tier(TIER, {Price: price})) as mesh, Poise(settings.broker) as poise:
        yield poise, mesh, paid


@pytest.mark.parametrize("field", UNENCODABLE)
async def test_an_unencodable_reply_is_a_fault_that_names_the_field(mesh_settings: MeshSettings, field: str) -> None:
    run = uuid4().hex
    async with paying(mesh_settings) as (poise, mesh, paid):
        with pytest.raises(FaultError) as caught:
            await poise.call(Price(field=field), run=run)
        letters = [
            letter
            for letter in await mesh.logs.read_topic(dead_letter_topic_name(TIER))
            if letter.header("poise-run") == run
        ]
    fault = caught.value.fault()
    assert (fault.type, fault.retryable) == ("urn:poise:failed", False)
    assert [error.field for error in fault.errors] == [field]
    assert fault.detail.startswith(f"priced/1 cannot be encoded: {field}: ")
    assert paid == [field]
    assert [letter.header("poise-dead-error") for letter in letters] == ["EncodingError"]


async def test_unencodable_text_of_a_stream_does_not_repeat_the_step(mesh_settings: MeshSettings) -> None:
    async with paying(mesh_settings) as (poise, _, paid):
        stream = poise.mesh.rpc.stream(Price(field="price"), CallOptions(run=uuid4().hex, step="price"))
        with pytest.raises(FaultError, match=r"priced/1 cannot be encoded: price"):
            async for _item in stream:
                pass
    assert paid == ["price"]


async def test_an_unencodable_request_is_an_error_of_the_caller(mesh_settings: MeshSettings) -> None:
    async with paying(mesh_settings) as (poise, _, paid):
        with pytest.raises(EncodingError, match=r"price/1 cannot be encoded: argument.a: "):
            await poise.call(Price(field="text", argument={"a": Unencodable()}))
        with pytest.raises(EncodingError, match=r"price/1 cannot be encoded: poise-step: cannot be encoded as UTF-8"):
            await poise.call(Price(field="text"), step="\ud800")
        assert poise.mesh.rpc._calls is not None
        assert not poise.mesh.rpc._calls._pending
    assert paid == []


async def test_a_step_with_an_unencodable_result_runs_once(mesh_settings: MeshSettings) -> None:
    """Check with a journal in Redis, in a tier that retries other bugs once."""
    paid: list[str] = []

    def pay() -> object:
        paid.append("paid")
        return {"client": Unencodable()}

    @workflow("pays")
    async def pays(run: Run, _request: Generate) -> Completion:
        await run.step("pay", pay)
        raise AssertionError("the workflow continued without the result")

    async def handle(request: Generate, context: Context) -> Completion:
        run = pays.new_run(context)

        async def work() -> Completion:
            return await pays.function(run, request)

        return await run.execute(work())

    async with serving(mesh_settings, Tier("inference", {Generate: handle})) as mesh:
        chat = Generate(messages=(ChatMessage(role="user", content="x"),))
        with pytest.raises(FaultError, match="the result of step pay cannot be encoded: client: "):
            await mesh.rpc.call(chat, CallOptions(run=uuid4().hex, step="g"))
    assert paid == ["paid"]
