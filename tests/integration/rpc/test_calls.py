"""Request and reply over a real Kafka: answers, typed faults, deadlines, identity."""

import asyncio
import re
import time
from typing import Any
from uuid import uuid4

import pytest
from integration_kit import WITHIN, PlainKafkaClient, serving

from poise.contracts import Answer, Ask, Completion, Deadlines, Fault, Generate, Request, TopicOptions
from poise.contracts.fault import MAX_SHORT_DETAIL
from poise.contracts.generate import ChatMessage
from poise.contracts.run_id import derive_run_id
from poise.contracts.topics import ASK_INTERACTIVE, INFERENCE_INTERACTIVE, dead_letter_topic_name
from poise.errors import DeadlineExceededError, FaultError, NotAcknowledgedError, RetryableError, TerminalError
from poise.kafka.record import Position
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


def generate(text: str) -> Generate:
    return Generate(messages=(ChatMessage(role="user", content=text),))


async def echo(request: Generate, _context: Context) -> Completion:
    return Completion(text=request.messages[-1].content, model="echo", backend="echo", finish_reason="stop")


async def answer(ask: Ask, context: Context) -> Answer:
    return Answer(run_id=context.run, text=f"{ask.question} {context.tenant} {context.step}", rung="primary")


INFERENCE = Tier("inference", {Generate: echo})
ORCHESTRATION = Tier("orchestration", {Ask: answer})


async def test_a_thousand_calls_at_once_each_get_their_own_reply(mesh_settings: MeshSettings) -> None:
    async with serving(mesh_settings, INFERENCE) as mesh:
        calls = (
            mesh.rpc.call(generate(str(n)), CallOptions(run=f"many-{mesh.settings.instance}-{n}", step="g"))
            for n in range(1_000)
        )
        replies = await asyncio.gather(*calls)
    assert [reply.text for reply in replies] == [str(n) for n in range(1_000)]


async def test_asks_without_a_run_do_not_wait_for_one_another(mesh_settings: MeshSettings) -> None:
    all_started = asyncio.Barrier(4)

    async def meet(ask: Ask, context: Context) -> Answer:
        async with asyncio.timeout(WITHIN):
            await all_started.wait()
        return await answer(ask, context)

    async with serving(mesh_settings, Tier("orchestration", {Ask: meet})) as mesh:
        answers = await asyncio.gather(*(mesh.rpc.call(Ask(question=str(n))) for n in range(4)))
    assert [each.text.partition(" ")[0] for each in answers] == ["0", "1", "2", "3"]


async def test_callers_that_share_a_reply_partition_get_their_own_replies(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.rpc.calls.random.randrange", lambda _partitions: 5)
    other = MeshSettings(broker=mesh_settings.broker)
    async with serving(mesh_settings, INFERENCE) as one, WorkerRuntime(other, tier="client") as two:
        run = one.settings.instance
        calls = [
            mesh.rpc.call(generate(f"{n}"), CallOptions(run=f"{run}-{n}", step="g"))
            for n in range(100)
            for mesh in (one, two)
        ]
        replies = await asyncio.gather(*calls)
    assert [reply.text for reply in replies] == [f"{n}" for n in range(100) for _ in range(2)]


async def test_a_terminal_error_is_a_typed_fault_and_a_dead_letter(mesh_settings: MeshSettings) -> None:
    async def refuse(_request: Generate, _context: Context) -> Completion:
        raise TerminalError("the prompt is longer than the model reads")

    run = mesh_settings.instance
    async with serving(mesh_settings, Tier("inference", {Generate: refuse})) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(generate("x"), CallOptions(run=run, step="g"))
        letters = await mesh.logs.read_topic(dead_letter_topic_name("inference"))
    fault = caught.value.fault()
    assert (fault.type, fault.status, fault.retryable) == ("urn:poise:failed", 500, False)
    assert "longer than the model reads" in fault.detail
    (letter,) = [letter for letter in letters if letter.header("poise-run") == run]
    assert letter.value == generate("x").encode()


async def test_a_retryable_error_is_retried_with_an_attempt_number(mesh_settings: MeshSettings) -> None:
    attempts = []

    async def fail_twice(request: Generate, context: Context) -> Completion:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise RetryableError("busy")
        return await echo(request, context)

    async with serving(mesh_settings, Tier("inference", {Generate: fail_twice})) as mesh:
        await mesh.rpc.call(generate("x"), CallOptions(run=mesh.settings.instance, step="g"))
    assert attempts == [1, 2, 3]


async def test_a_bug_in_a_handler_is_a_fault_that_names_the_dead_letter(mesh_settings: MeshSettings) -> None:
    async def bug(_request: Generate, _context: Context) -> Completion:
        raise KeyError("secret")

    async with serving(mesh_settings, Tier("inference", {Generate: bug})) as mesh:
        with pytest.raises(FaultError) as caught:
            await mesh.rpc.call(generate("x"), CallOptions(run=mesh.settings.instance, step="g"))
    assert "dead letter inference/" in caught.value.fault().detail
    assert "secret" not in caught.value.fault().detail


async def test_a_request_not_acknowledged_by_its_deadline_is_a_typed_fault(
    mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate a partition without a leader; `tests/chaos/test_leaderless.py` has a real one."""

    async def never(*_: object, **__: object) -> Position:
        await asyncio.Event().wait()
        raise AssertionError

    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        assert mesh.rpc._calls is not None
        monkeypatch.setattr(mesh.rpc._calls, "_send", never)
        with pytest.raises(NotAcknowledgedError) as caught:
            await mesh.rpc.call(
                generate("x"), CallOptions(run=mesh.settings.instance, step="g", deadline=time.time() + 0.1)
            )
    fault = caught.value.fault()
    assert (fault.type, fault.status, fault.retryable) == ("urn:poise:not-taken", 503, True)


async def test_only_late_and_orphaned_replies_are_counted(mesh_settings: MeshSettings) -> None:
    settings = mesh_settings.model_copy(update={"admin_port": 0})
    async with WorkerRuntime(settings, tier="client") as mesh:
        assert mesh.rpc._calls is not None
        assert mesh._telemetry.exposition is not None
        with pytest.raises(DeadlineExceededError):
            await mesh.rpc.call(generate("x"), CallOptions(run=settings.instance, step="g", deadline=time.time() + 0.1))
        (abandoned,) = mesh.rpc._calls._abandoned
        earlier_process = f"{settings.instance}.earlier-process".encode()
        for correlation_id in (abandoned, earlier_process, b"another-client.1", None):
            headers = [] if correlation_id is None else [("correlation_id", correlation_id)]
            await mesh.producer.records.send(
                "poise.replies", b"{}", key=None, headers=headers, partition=mesh.rpc._calls._partition
            )
        counted = b""
        async with asyncio.timeout(WITHIN):
            while b"poise_replies_orphaned" not in counted:
                await asyncio.sleep(0.02)
                counted = mesh._telemetry.exposition()
    lines = [line for line in counted.decode().splitlines() if line.startswith("poise_replies")]
    assert sorted(line.split("{")[0].split(" ")[0] for line in lines) == [
        "poise_replies_late_total",
        "poise_replies_orphaned_total",
    ]
    assert all(line.endswith(" 1.0") for line in lines), lines


async def test_the_caller_gets_an_error_at_its_deadline(mesh_settings: MeshSettings) -> None:
    async def hang(_request: Generate, _context: Context) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(mesh_settings, Tier("inference", {Generate: hang})) as mesh:
        with pytest.raises((DeadlineExceededError, FaultError), match=r"(?i)deadline"):
            await mesh.rpc.call(
                generate("x"), CallOptions(run=mesh.settings.instance, step="g", deadline=time.time() + 0.3)
            )


class Slow(Request[Completion]):
    kind = "slow/1"
    reply = Completion
    tier = "slow"


async def test_a_shortened_deadline_is_logged_and_named_in_the_error(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(_request: Slow, _context: Context) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError

    tier = Tier("slow", {Slow: hang}, topics=TopicOptions(interactive=Deadlines(1.0, 2.0)))
    expected = r"\((30|29\.\d+) s were requested, and poise\.slow\.requests\.interactive allows 2 s\)"
    async with serving(mesh_settings, tier) as mesh:
        topic = tier.topics[0]
        with pytest.raises((FaultError, DeadlineExceededError), match=expected):  # from the caller or the tier
            await mesh.rpc.call(Slow(), CallOptions(run=uuid4().hex, step="s", topic=topic, deadline=time.time() + 30))
        sent = await plain_client.send(topic.name, b"{}", poise_deadline=str(round((time.time() + 30) * 1_000)))
        fault = Fault.parse((await plain_client.reply(sent)).value or b"")
    assert re.search(expected, fault.detail)
    assert re.search(f"is shortened {expected}", caplog.text)


async def test_a_kafka_client_gets_the_reply_on_its_own_topic(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with serving(mesh_settings, ORCHESTRATION):
        sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "why?"}')
        reply = await plain_client.reply(sent)
        partitioned = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "how?"}', poise_reply_partition="1")
        second_reply = await plain_client.reply(partitioned)
    answered = Answer.parse(reply.value or b"")
    assert reply.header("poise-kind") == "answer/1"
    assert answered.text == "why? default ask"
    assert answered.run_id == derive_run_id(sent.topic, sent.partition, sent.offset, sent.timestamp)
    assert second_reply.partition == 1


async def test_identity_headers_on_a_public_topic_are_ignored(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    async with serving(mesh_settings, ORCHESTRATION):
        claims: dict[str, Any] = {"poise_run": "mine", "poise_step": "mine", "poise_tenant": "somebody-else"}
        sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "who?"}', **claims)
        answered = Answer.parse((await plain_client.reply(sent)).value or b"")
    assert answered.text == "who? default ask"
    assert answered.run_id != "mine"


async def test_an_expired_request_is_a_fault_and_no_dead_letter(
    mesh_settings: MeshSettings, plain_client: PlainKafkaClient
) -> None:
    past = str(round((time.time() - 5) * 1_000))
    async with serving(mesh_settings, ORCHESTRATION) as mesh:
        sent = await plain_client.send(ASK_INTERACTIVE.name, b'{"question": "when?"}', poise_deadline=past)
        reply = await plain_client.reply(sent)
        letters = await mesh.logs.read_topic(dead_letter_topic_name("orchestration"))
    fault = Fault.parse(reply.value or b"")
    assert (fault.type, fault.status) == ("urn:poise:deadline-exceeded", 504)
    assert not [letter for letter in letters if letter.header("correlation_id") == sent.header("correlation_id")]


async def test_a_reply_too_large_for_the_broker_is_a_fault(mesh_settings: MeshSettings) -> None:
    async def verbose(_request: Generate, _context: Context) -> Completion:
        return Completion(text="x" * 2_000_000, model="m", backend="b", finish_reason="stop")

    async with serving(mesh_settings, Tier("inference", {Generate: verbose})) as mesh:
        with pytest.raises(FaultError, match=r"20\d{5} bytes is larger than poise\.replies takes"):
            await mesh.rpc.call(generate("x"), CallOptions(run=mesh.settings.instance, step="g"))


async def test_a_long_fault_detail_is_truncated(mesh_settings: MeshSettings, plain_client: PlainKafkaClient) -> None:
    async def verbose(_request: Generate, _context: Context) -> Completion:
        raise TerminalError("no " * 1_000_000)

    async with serving(mesh_settings, Tier("inference", {Generate: verbose})):
        sent = await plain_client.send(INFERENCE_INTERACTIVE.name, generate("x").encode(), b"k")
        fault = Fault.parse((await plain_client.reply(sent)).value or b"")
    assert (fault.status, fault.detail) == (500, ("no " * 1_000)[:MAX_SHORT_DETAIL])
