"""Streams with retries, lost leases, lost and repeated events, silence and faults."""

import asyncio
import time

import pytest
from integration_kit import serving, until
from redis.asyncio import Redis
from stream_kit import PIECES, TEXT, StreamReading, completion, generate, run_of, write

from poise.contracts import Completion, Delta, Generate, Reset
from poise.contracts.envelope import Envelope
from poise.contracts.topics import dead_letter_topic_name
from poise.dead_letters.model import DeadLetter
from poise.dead_letters.redrive_plan import RedriveOptions, redrive_headers
from poise.errors import DeadlineExceededError, FaultError, RetryableError, TerminalError
from poise.kafka.record import Record
from poise.redis.client import RedisClient
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply
from poise.rpc.client import CallOptions
from poise.rpc.stream_reader import LOST, RESTARTED
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration


async def test_a_second_attempt_resets_the_text_of_the_first(mesh_settings: MeshSettings) -> None:
    shown = asyncio.Event()

    async def fail_first_attempt(request: Generate, context: Context) -> Completion:
        if context.attempt == 1:
            assert context.stream_writer is not None
            await context.stream_writer.write("Well")
            await shown.wait()
            raise RetryableError("the connection to the model was lost")
        return await write(request, context)

    async with serving(mesh_settings, Tier("inference", {Generate: fail_first_attempt})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text="Well")
        shown.set()
        reading = StreamReading()
        await reading.read_all(stream)
    assert (reading.shown, [reset.reason for reset in reading.resets]) == (TEXT, [RESTARTED])
    assert isinstance(reading.items[0], Reset)


async def test_text_of_a_worker_that_lost_its_lease_is_reset(mesh_settings: MeshSettings) -> None:
    """Let a slow worker's lease expire: another worker acquires it and stores its reply first."""

    async def lose_the_lease(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Mine.")
        await context.stream_writer._flush()
        other_lease = Lease.for_step(context.tenant, context.run, context.step, Generate.kind, "0", token="other_lease")  # noqa: S106
        async with (
            Redis.from_url(mesh_settings.redis_url or "") as redis,
            RedisClient(mesh_settings.redis_url) as cache,
        ):
            await redis.delete(other_lease.key)
            leases = LeaseStore(cache)
            assert await leases.acquire(other_lease, 10) is LeaseStatus.OWNED
            await leases.store(other_lease, StoredReply(Completion.kind, completion("Theirs.").encode()), 60)
        return completion("Mine.")

    async with serving(mesh_settings, Tier("inference", {Generate: lose_the_lease})) as mesh:
        reading = StreamReading()
        reply = await reading.read_all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert (reply.text, reading.shown, [reset.reason for reset in reading.resets]) == (
        "Theirs.",
        "Theirs.",
        [RESTARTED],
    )


async def lossy(settings: MeshSettings, drop: int) -> StreamReading:
    """Read a stream whose event with sequence number `drop` is not sent."""

    async def write_with_loss(_request: Generate, context: Context) -> Completion:
        stream = context.stream_writer
        assert stream is not None
        send = stream._send

        async def send_unless_dropped(topic: str, value: bytes | None, **named: object) -> object:
            if dict(named["headers"])["poise-seq"] == str(drop).encode():  # type: ignore[call-overload]
                return None
            return await send(topic, value, **named)  # type: ignore[arg-type]

        stream._send = send_unless_dropped  # type: ignore[assignment]  # loses one event
        for piece in PIECES:
            await stream.write(piece)
            await stream._flush()
        return completion()

    async with serving(settings, Tier("inference", {Generate: write_with_loss})) as mesh:
        reading = StreamReading()
        await reading.read_all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    return reading


@pytest.mark.parametrize("drop", [0, 2, len(PIECES)], ids=["the first", "one in the middle", "the end"])
async def test_text_with_a_lost_event_is_replaced_by_the_reply(mesh_settings: MeshSettings, drop: int) -> None:
    reading = await lossy(mesh_settings, drop)
    assert reading.shown == TEXT
    assert [reset.reason for reset in reading.resets] == (
        [LOST] if drop else []
    )  # without the first event, nothing was shown


async def test_repeated_events_and_events_of_other_calls_are_ignored(mesh_settings: MeshSettings) -> None:
    async def write_with_repeats(_request: Generate, context: Context) -> Completion:
        stream = context.stream_writer
        assert stream is not None
        send = stream._send

        async def send_twice(topic: str, value: bytes | None, **named: object) -> object:
            other_call = Envelope(correlation_id=b"another-call", kind=Delta.kind, stream="s", seq=0).headers()
            await send(topic, b'{"text":"not ours"}', **(named | {"headers": other_call}))  # type: ignore[arg-type]
            await send(topic, value, **named)  # type: ignore[arg-type]
            return await send(topic, value, **named)  # type: ignore[arg-type]

        stream._send = send_twice  # type: ignore[assignment]
        for piece in PIECES:
            await stream.write(piece)
            await stream._flush()
        return completion()

    async with serving(mesh_settings, Tier("inference", {Generate: write_with_repeats})) as mesh:
        reading = StreamReading()
        await reading.read_all(mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g")))
    assert (reading.shown, reading.resets) == (TEXT, [])


async def test_a_silent_stream_ends_with_an_error_at_the_deadline(mesh_settings: MeshSettings) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh:
        readings: list[object] = []
        run = run_of(mesh)
        stream = mesh.rpc.stream(generate(), CallOptions(run=run, step="g", deadline=time.time() + 1))
        first = asyncio.ensure_future(anext(stream))
        assert mesh.rpc._calls is not None
        await until(lambda: bool(mesh.rpc._calls and mesh.rpc._calls._pending))
        (correlation_id,) = mesh.rpc._calls._pending
        event = Envelope(correlation_id=correlation_id, run=run, kind=Delta.kind, stream="s", seq=0)
        headers = event.headers()
        body = Delta(text="Well").encode()
        await mesh.producer.records.send(
            "poise.replies", body, key=None, headers=headers, partition=mesh.rpc._calls._partition
        )
        readings.append(await first)
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
        assert not mesh.rpc._calls._pending
    assert readings == [Delta(text="Well")]


async def test_a_fault_after_text_is_raised(mesh_settings: MeshSettings) -> None:
    async def write_and_fail(_request: Generate, context: Context) -> Completion:
        assert context.stream_writer is not None
        await context.stream_writer.write("Well")
        await context.stream_writer._flush()
        raise TerminalError("the model broke")

    async with serving(mesh_settings, Tier("inference", {Generate: write_and_fail})) as mesh:
        stream = mesh.rpc.stream(generate(), CallOptions(run=run_of(mesh), step="g"))
        assert await anext(stream) == Delta(text="Well")
        with pytest.raises(FaultError, match="the model broke"):
            await anext(stream)


async def test_a_redriven_message_has_no_stream_address(mesh_settings: MeshSettings) -> None:
    async def write_and_fail(_request: Generate, _context: Context) -> Completion:
        raise TerminalError("the model broke")

    async with serving(mesh_settings, Tier("inference", {Generate: write_and_fail})) as mesh:
        run = run_of(mesh)
        with pytest.raises(FaultError):
            await StreamReading().read_all(mesh.rpc.stream(generate(), CallOptions(run=run, step="g")))
        letters: list[Record] = [
            r for r in await mesh.logs.read_topic(dead_letter_topic_name("inference")) if r.header("poise-run") == run
        ]
    (letter,) = letters
    assert letter.header("poise-stream-to") is not None
    sent = redrive_headers(DeadLetter("inference", letter, None), RedriveOptions())
    assert "poise-stream-to" not in dict(sent)
