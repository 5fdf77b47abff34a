"""The consumer: at-least-once delivery, concurrency and order."""

import asyncio
from uuid import uuid4

import pytest
from integration_kit import PlainKafkaClient, serving, until

from poise.contracts import Answer, Ask, Completion, Generate
from poise.contracts.generate import ChatMessage
from poise.contracts.topics import ASK_INTERACTIVE, INFERENCE_INTERACTIVE
from poise.kafka.consumer import ConsumerLimits
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


def generate(text: str) -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=text),))


def completion(text: str) -> Completion:
    return Completion(text=text, model="m", backend="b", finish_reason="stop")


async def test_messages_of_one_partition_are_handled_concurrently(mesh_settings: MeshSettings) -> None:
    together = asyncio.Barrier(40)

    async def meet(_request: Generate, _context: Context) -> Completion:
        async with asyncio.timeout(15):
            await together.wait()  # passes only if forty are being handled at once
        return completion("met")

    async with serving(mesh_settings, Tier("inference", {Generate: meet})) as mesh:
        run = mesh.settings.instance
        key = "all in one partition"
        calls = (mesh.rpc.call(generate("x"), CallOptions(run=f"{run}-{n}", step="g", key=key)) for n in range(40))
        assert {reply.text for reply in await asyncio.gather(*calls)} == {"met"}


async def test_concurrency_is_bounded(mesh_settings: MeshSettings) -> None:
    now = most = 0

    async def work(_request: Generate, _context: Context) -> Completion:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return completion("x")

    async with serving(mesh_settings, Tier("inference", {Generate: work}, concurrency=3)) as mesh:
        calls = (
            mesh.rpc.call(generate("x"), CallOptions(run=f"{mesh.settings.instance}-{n}", step="g")) for n in range(100)
        )
        await asyncio.gather(*calls)
    assert most <= 3


async def test_one_conversation_is_answered_in_order_and_does_not_block_others(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    order: list[str] = []
    first_may_end = asyncio.Event()

    async def answer(ask: Ask, context: Context) -> Answer:
        if ask.question == "a1":
            await first_may_end.wait()
        order.append(ask.question)
        return Answer(run_id=context.run, text=ask.question, rung="primary")

    async with serving(mesh_settings, Tier("orchestration", {Ask: answer})):
        asks = [("a1", b"a"), ("a2", b"a"), ("b1", b"b"), ("a3", b"a"), ("n1", None)]
        sent = [
            await plain_client.send(ASK_INTERACTIVE.name, b'{"question":"%s"}' % q.encode(), key=k) for q, k in asks
        ]
        await until(lambda: {"b1", "n1"} <= set(order))
        assert not [question for question in order if question.startswith("a")]
        first_may_end.set()
        await plain_client.reply(sent[3])
    assert [question for question in order if question.startswith("a")] == ["a1", "a2", "a3"]


async def test_interrupted_messages_are_handled_by_the_next_worker(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "poise.worker.tier_runner.ConsumerLimits", lambda concurrency: ConsumerLimits(concurrency, drain_timeout=0.05)
    )
    handled: list[str] = []
    begun = asyncio.Event()

    async def hang_on_first(request: Generate, _context: Context) -> Completion:
        if request.messages[0].content == "first":
            begun.set()
            await asyncio.Event().wait()
        handled.append(request.messages[0].content)
        return completion("x")

    async def handle(request: Generate, _context: Context) -> Completion:
        handled.append(request.messages[0].content)
        return completion("again")

    async with WorkerRuntime(MeshSettings(broker=mesh_settings.broker), tier="client") as client:
        run = uuid4().hex
        async with serving(mesh_settings, Tier("inference", {Generate: hang_on_first})):
            first = asyncio.create_task(client.rpc.call(generate("first"), CallOptions(run=run, step="1", key="k")))
            await begun.wait()
            await client.rpc.call(generate("second"), CallOptions(run=run, step="2", key="k"))
        assert handled == ["second"]
        async with serving(mesh_settings, Tier("inference", {Generate: handle})):
            assert (await first).text == "again"
    assert "first" in handled


async def test_finished_messages_are_not_handled_again(mesh_settings: MeshSettings) -> None:
    handled: list[str] = []

    async def handle(request: Generate, _context: Context) -> Completion:
        handled.append(request.messages[0].content)
        return completion("x")

    tier = Tier("inference", {Generate: handle})
    run = uuid4().hex
    async with serving(mesh_settings, tier) as mesh:
        await asyncio.gather(
            *(mesh.rpc.call(generate(str(n)), CallOptions(run=f"{run}-{n}", step="g")) for n in range(50))
        )
    async with serving(mesh_settings, tier) as mesh:
        await mesh.rpc.call(generate("last"), CallOptions(run=run, step="g"))
    assert sorted(handled) == sorted([*map(str, range(50)), "last"])


@pytest.mark.parametrize("with_cache", [True, False])
async def test_a_step_delivered_twice_gets_the_same_reply_and_with_redis_runs_once(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, *, with_cache: bool
) -> None:
    settings = mesh_settings if with_cache else mesh_settings.model_copy(update={"redis_url": None})
    paid = 0

    async def pay(_request: Generate, _context: Context) -> Completion:
        nonlocal paid
        paid += 1
        return completion(f"{paid}")

    run = uuid4().hex
    async with serving(settings, Tier("inference", {Generate: pay})):
        body = generate("x").encode()
        replies = []
        for _ in range(2):
            sent = await plain_client.send(INFERENCE_INTERACTIVE.name, body, key=b"k", poise_run=run, poise_step="g")
            replies.append((await plain_client.reply(sent)).value)
    assert paid == (1 if with_cache else 2)
    assert (replies[0] == replies[1]) is with_cache


async def test_no_message_is_lost_when_workers_join_and_leave(mesh_settings: MeshSettings) -> None:
    handled: dict[str, list[str]] = {"one": [], "two": []}

    def tier(name: str) -> Tier:
        async def handle(request: Generate, _context: Context) -> Completion:
            await asyncio.sleep(0.005)
            handled[name].append(request.messages[0].content)
            return completion("x")

        return Tier("inference", {Generate: handle})

    client_settings = MeshSettings(broker=mesh_settings.broker)
    run = uuid4().hex
    async with WorkerRuntime(client_settings, tier="client") as client, serving(mesh_settings, tier("one")):
        calls: list[asyncio.Task[Completion]] = []

        async def load() -> None:
            for n in range(1_500):
                calls.append(
                    asyncio.create_task(client.rpc.call(generate(str(n)), CallOptions(run=f"{run}-{n}", step="g")))
                )
                await asyncio.sleep(0.002)

        loading = asyncio.create_task(load())
        second = mesh_settings.model_copy(update={"instance": f"{mesh_settings.instance}-two"})
        async with serving(second, tier("two")):
            await until(lambda: len(handled["two"]) > 50)
        await loading
        replies = await asyncio.gather(*calls)
    assert len(replies) == 1_500
    assert set(handled["one"]) | set(handled["two"]) == {str(n) for n in range(1_500)}


async def test_a_backlog_in_the_batch_lane_does_not_delay_the_interactive_lane(mesh_settings: MeshSettings) -> None:
    bulk_may_end = asyncio.Event()
    begun = 0

    async def write(_request: Generate, context: Context) -> Completion:
        nonlocal begun
        if context.lane == "batch":
            begun += 1
            await bulk_may_end.wait()
        return completion(context.lane)

    async with serving(mesh_settings, Tier("inference", {Generate: write}, concurrency=8)) as mesh:
        run = uuid4().hex
        bulk = [
            asyncio.create_task(mesh.rpc.call(generate("x"), CallOptions(run=f"{run}-{n}", step="g", lane="batch")))
            for n in range(500)
        ]
        await until(lambda: begun == 2)  # a quarter of eight
        replies = await asyncio.gather(
            *(mesh.rpc.call(generate("x"), CallOptions(run=f"{run}-i{n}", step="g")) for n in range(100))
        )
        assert {reply.text for reply in replies} == {"interactive"}
        assert begun == 2
        bulk_may_end.set()
        assert {reply.text for reply in await asyncio.gather(*bulk)} == {"batch"}
