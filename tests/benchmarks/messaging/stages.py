"""Stages: the CPU time of each stage of a no-op message, measured alone in a loop.

A stage alone does not cost exactly what it costs in a worker (CPU caches, the event loop). The report also shows the
cost of a message in a worker, and its difference from the sum of the stages.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from poise.contracts.envelope import Envelope
from poise.contracts.message import Message
from poise.contracts.retrieve import Retrieve
from poise.contracts.topics import RETRIEVAL_INTERACTIVE as RETRIEVAL
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.record import Record
from poise.liveness import Liveness
from poise.redis.client import RedisClient
from poise.redis.lease import LeaseHolder
from poise.redis.lease_store import LeaseStore
from poise.rpc.deadlines import resolve_deadline
from poise.rpc.encoding import EncodedMessage
from poise.settings import MeshSettings
from poise.telemetry import SpanKind, adjust, count, extract, measure, semconv, span
from poise.worker.context import Context
from poise.worker.decoder import MessageDecoder
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.processor import span_attributes
from poise.worker.runtime import WorkerRuntime
from tests.benchmarks.command import MeasurementPlan
from tests.benchmarks.figures import FigureCollector, ScenarioResult
from tests.benchmarks.messaging import noop
from tests.benchmarks.messaging.contestants import NOTHING
from tests.benchmarks.messaging.environment import POISE, Environment
from tests.benchmarks.messaging.job import headers, request

ROUNDS: Final = 3_000
METERED: Final = {semconv.MESSAGING_DESTINATION: RETRIEVAL.name}
MEASURE: Final = "µs"


async def run(environment: Environment, plan: MeasurementPlan) -> ScenarioResult:
    """Measure each stage with telemetry off and on, then a whole message in a worker."""
    found = FigureCollector()
    for _ in plan.repeat(2):
        for traced in (False, True):
            name = noop.TRACED if traced else POISE
            settings = MeshSettings(broker=environment.bootstrap, spans=traced, admin_port=0 if traced else None)
            async with WorkerRuntime(settings, tier="retrieval") as mesh:
                costs = await stages(mesh, settings)
            for stage, cost in costs.items():
                found.add(stage, name, cost)
            total = (await noop.once(environment, name, plan.scaled(noop.MANY)))["cpu"] * 1e6
            found.add("the loop, aiokafka's fetching, commits and spans' sending", name, total - sum(costs.values()))
            found.add("all of it, in place", name, total)
        bare = (await noop.once(environment, noop.BARE, plan.scaled(noop.MANY)))["cpu"] * 1e6
        found.add("all of it, in place", noop.BARE, bare)
    return ScenarioResult("stages", found.figures(), [], ["CPU µs for a message of 1 KB whose handler does nothing."])


async def stages(mesh: WorkerRuntime, settings: MeshSettings) -> dict[str, float]:
    """Return microseconds by stage, in the order of a message's life."""
    asked = request()
    body = asked.encode()
    raw: Any = ConsumerRecord(
        RETRIEVAL.name, 0, 0, round(time.time() * 1_000), 0, None, body, 0, 0, 1000, tuple(headers(1))
    )
    record = Record.of(raw)
    envelope = Envelope.read(record.headers)
    guard = IdempotencyGuard(LeaseHolder(LeaseStore(RedisClient(None)), settings.lease_ttl, Liveness()))
    decoder = MessageDecoder(mesh, mesh.redis, RETRIEVAL)
    context = decoder.context(record, envelope, time.time() + 60)
    tracker = OffsetTracker()
    offsets = iter(range(1 << 60))

    def track() -> None:
        tracker.deliver(offset := next(offsets))
        tracker.finish(offset)

    def meter() -> None:
        adjust(semconv.IN_FLIGHT, 1, METERED)
        count(semconv.CONSUMED_MESSAGES, 1, METERED)
        measure(semconv.QUEUE_WAIT, 0.01, METERED)
        measure(semconv.PROCESS_DURATION, 0.01, METERED)
        adjust(semconv.IN_FLIGHT, -1, METERED)

    def trace() -> None:
        with span(
            semconv.process_span(RETRIEVAL.name),
            kind=SpanKind.CONSUMER,
            attributes=span_attributes(context, time.time()),
            parent=extract(envelope.trace),
        ) as current:
            current.set_attribute(semconv.OUTCOME, "ok")

    async def handle() -> None:
        async with asyncio.timeout(context.remaining()):
            await nothing(None, context)

    async def journaled() -> None:
        async with guard.claim(asked, context) as claim:
            await claim.store_result(EncodedMessage.of(NOTHING))

    async def nothing_at_all() -> None:
        pass

    async def task() -> None:
        await asyncio.create_task(nothing_at_all())

    return {
        "record made of aiokafka's": each(lambda: Record.of(raw)),
        "offset tracking": each(track),
        "a task": await each_awaited(task),
        "envelope read": each(lambda: Envelope.read(record.headers)),
        "deadline": each(lambda: resolve_deadline(envelope.deadline, record.timestamp, RETRIEVAL.deadlines)),
        "reply address": await each_awaited(lambda: mesh.addresses.resolve(envelope)),
        "stream address": await each_awaited(lambda: mesh.addresses.resolve_stream(envelope, public=False)),
        "body parsed and validated (pydantic)": each(lambda: Retrieve.parse(body)),
        "context": each(lambda: decoder.context(record, envelope, 0.0)),
        "span": each(trace),
        "metrics": each(meter),
        "journal, without Redis": await each_awaited(journaled),
        "handler, within its deadline": await each_awaited(handle),
    }


async def nothing(_request: Any, _context: Context) -> Message | None:
    """Handle a message by doing nothing."""
    return NOTHING


@contextmanager
def timed(costs: list[float]) -> Iterator[None]:
    """Append the CPU time of the block in µs for each round."""
    began = time.process_time()
    yield
    costs.append((time.process_time() - began) / ROUNDS * 1e6)


def each(stage: Callable[[], object]) -> float:
    """Return microseconds of a stage, the minimum of three loops, as interference only adds time."""
    costs: list[float] = []
    for _ in range(3):
        with timed(costs):
            for _ in range(ROUNDS):
                stage()
    return min(costs)


async def each_awaited(stage: Callable[[], Awaitable[object]]) -> float:
    """Return microseconds of a stage that is a coroutine, measured as by `each`."""
    costs: list[float] = []
    for _ in range(3):
        with timed(costs):
            for _ in range(ROUNDS):
                await stage()
    return min(costs)
