"""The mesh, as one process has it: its connections, its calls, what it publishes, follows and serves."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self

from poise.contracts.cancel import Cancel
from poise.contracts.envelope import CONTENT_TYPE, KIND, Envelope
from poise.contracts.fault import Fault
from poise.contracts.message import Message, ReplyT, Request
from poise.contracts.stream import Delta, Reset
from poise.contracts.topics import BATCH, CANCEL, REPLIES, Lane, Topic
from poise.dead_letters.undecodable_batches import UndecodableBatches
from poise.errors import RecordTooLargeError, SetupError, UnavailableError
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.consumer import ConcurrentConsumer
from poise.kafka.faststream_adapter import new_broker
from poise.kafka.log_lookup import LogLookup
from poise.kafka.log_reader import LogAccess
from poise.kafka.log_stream import LogStream, Start
from poise.kafka.partitioner import partition_for
from poise.kafka.producer import Producer
from poise.kafka.record import Headers, Position, Record
from poise.kafka.record_size import TopicLimits
from poise.kafka.topic_identities import TopicIdentities
from poise.liveness import Liveness
from poise.redis.client import RedisClient
from poise.redis.step_results import StepResultStore
from poise.rpc.calls import Calls, OutgoingCall, StreamSink
from poise.rpc.cancellation import CancellationRegistry
from poise.rpc.encoding import EncodedMessage, encode, headers_of
from poise.rpc.reply_address import Address, ReplyAddresses
from poise.rpc.stream_reader import StreamReader
from poise.rpc.stream_writer import StreamWriter
from poise.run_log.span_writer import SpanWriter
from poise.settings import MeshSettings
from poise.telemetry import inject, observe, semconv
from poise.telemetry.endpoint import AdminEndpoint
from poise.telemetry.setup import Telemetry
from poise.worker import custom_tiers, executors
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.process import StopSignal, must_end, settled
from poise.worker.readiness import Readiness
from poise.worker.tier import Tier
from poise.worker.tier_runner import TierRunner

log = logging.getLogger(__name__)

STOPPED_WITHIN: Final = 15.0
"""Seconds for disconnecting: a client library may wait for ever for a broker that is gone."""
JSON: Final = "application/json"


class Mesh:
    """One process's place in the mesh; `async with Mesh(settings, tier="retrieval") as mesh`.

    Raises:
        SetupError: No broker answers, topics are missing, or the admin port is taken.
    """

    def __init__(self, settings: MeshSettings, *, tier: str) -> None:
        self.settings = settings
        self.connection = Connection.of(settings)
        self.admin = KafkaAdmin(self.connection)
        self.addresses = ReplyAddresses(self.admin.partitions)
        self.stop = StopSignal()
        self._broker = new_broker(self.connection)
        self._telemetry = Telemetry(settings, tier)
        self._calls: Calls | None = None
        self.liveness = Liveness(ending=must_end)
        self.topic_identities = TopicIdentities()
        self.producer = Producer(
            self.connection, TopicLimits(self.admin.record_limits), self._leaderless, self.liveness
        )
        self._undecodable = UndecodableBatches(self.send, partial(LogStream, self.connection), settings.instance)
        self.lookups = LogLookup(partial(LogStream, self.connection, on_undecodable=self._undecodable.keep), self.admin)
        self.log_access = LogAccess(
            self.connection, self.admin, self.liveness, self.topic_identities, self._undecodable.keep
        )
        self.cancels = CancellationRegistry(self.log_access, settings, self._publish_cancel)
        self.cache = RedisClient(settings.redis_url, liveness=self.liveness)
        self._started = False
        self._ready = Readiness(self.admin, self.liveness, self.topic_identities)
        self._intakes: list[ConcurrentConsumer] = []
        self._stack = AsyncExitStack()

    # -- coming and going -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect; when this returns, calls can be made."""
        async with AsyncExitStack() as stack:
            self._telemetry.start()
            stack.push_async_callback(self._telemetry.stop)
            if (port := self.settings.admin_port) is not None:
                host, exposition = self.settings.admin_host, self._telemetry.exposition
                endpoint = AdminEndpoint(host, port, self.readiness, exposition, self.settings.admin_allowed_hosts)
                await endpoint.start()
                stack.push_async_callback(endpoint.stop)
            stack.callback(observe(semconv.PART_AGE, self.liveness.ages))
            self.ready_when("started", lambda: self._started)
            self.ready_when("broker", lambda: self._ready.broker_answers and self._calls is not None)
            await stack.enter_async_context(self.admin)
            await stack.enter_async_context(self._ready)
            await stack.enter_async_context(self.cache)
            await stack.enter_async_context(self.producer)
            await self._broker.start()
            stack.push_async_callback(self._broker.stop)
            stack.push_async_callback(self.cancels.flush)
            stack.push_async_callback(self._undecodable.flush)
            partitions = await self.admin.partitions(REPLIES.name) or REPLIES.partitions
            calls = Calls(self.log_access, self.settings.instance, self.send, partitions, self.cancels.give_up)
            self._calls = await stack.enter_async_context(calls)
            await stack.enter_async_context(SpanWriter(self.producer, self._telemetry.spans, self.liveness))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect, without the broker's help if it is gone."""
        try:
            async with asyncio.timeout(STOPPED_WITHIN):
                await self._stack.aclose()
        except TimeoutError:
            log.warning("the broker did not answer while disconnecting: left without")

    def _leaderless(self, topic: str) -> frozenset[int]:
        found = self.topic_identities.latest(topic)
        return frozenset() if found is None else found.leaderless

    def ready_when(self, name: str, check: Callable[[], bool]) -> None:
        """Add a condition to what `/readyz` asks."""
        self._ready.when(name, check)

    def readiness(self) -> dict[str, bool]:
        """The conditions, and which are met."""
        return self._ready.now()

    # -- speaking -------------------------------------------------------------------------------------------------

    async def call(
        self,
        request: Request[ReplyT],
        *,
        run: str | None = None,
        step: str | None = None,
        tenant: str | None = None,
        lane: Lane = "interactive",
        deadline: float | None = None,
        key: str | None = None,
        min_epoch: str | None = None,
        topic: Topic | None = None,
        stream: StreamSink | None = None,
    ) -> ReplyT:
        """Ask a tier and wait for its reply.

        Args:
            request: What is asked; its type says where it goes.
            run: The run it belongs to.
            step: Its stable name inside the run.
            tenant: Whose it is; the process's own tenant by default.
            lane: Its traffic class.
            deadline: Unix seconds; the lane's default from now by default.
            key: What orders it, where the topic is ordered; else run and step spread it, or, without a run, chance.
            min_epoch: The epoch that retrieval must have come to.
            topic: Another topic than the request's own.
            stream: What the reply's words go to as they come.

        Raises:
            FaultError: A fault came back.
            DeadlineExceededError: Nothing came before the deadline.
            UnavailableError: The broker did not take the request, or the tier of one's own has no topics yet.
            EncodingError: The request has a field, or a header, that cannot be written.
            LookupError: The request's class does not say which tier answers it.
        """
        if self._calls is None:
            raise UnavailableError("the mesh is not connected: use it inside `async with`")
        topic = topic or await custom_tiers.destination(self.admin, type(request), lane)
        envelope = Envelope(run=run, step=step, tenant=tenant or self.settings.tenant, min_epoch=min_epoch)
        if topic.edge:
            envelope = Envelope(min_epoch=min_epoch)
        elif key is None and run is not None:
            key = f"{run}/{step}"
        deadline = deadline if deadline is not None else time.time() + topic.deadlines.default
        return await self._calls.call(request, OutgoingCall(topic, key, envelope, deadline, stream))

    async def stream(
        self,
        request: Request[ReplyT],
        *,
        run: str | None = None,
        step: str | None = None,
        tenant: str | None = None,
        lane: Lane = "interactive",
        deadline: float | None = None,
        key: str | None = None,
        min_epoch: str | None = None,
        topic: Topic | None = None,
    ) -> AsyncGenerator[Delta | Reset | ReplyT]:
        """Ask a tier, and have the reply's words as they come; the last item is the reply itself.

        The words since the last `Reset` are provisional until the reply; then they are its text, but for white space
        around it. To close the generator is to give the call up. A slow reader has words put together, and none lost.

        Args and errors are those of `call`; an error may come after words.
        """
        reader = StreamReader()
        calling = asyncio.create_task(
            self.call(
                request,
                run=run,
                step=step,
                tenant=tenant,
                lane=lane,
                deadline=deadline,
                key=key,
                min_epoch=min_epoch,
                topic=topic,
                stream=reader,
            )
        )
        calling.add_done_callback(lambda _: reader.close())
        try:
            async for event in reader:
                yield event
            yield await calling
        finally:  # nobody reads on: where the call is not over, it is given up
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)

    async def publish(
        self,
        topic: Topic,
        message: Message | None,
        *,
        key: str | None,
        partition: int | None = None,
        envelope: Envelope | None = None,
        doc_version: int | None = None,
    ) -> Position:
        """Publish a message and wait until the broker has it; None is a tombstone.

        Raises:
            UnavailableError: The broker did not take it.
            EncodingError: It has a field, or a header, that cannot be written.
            TerminalError: It is larger than the broker takes.
        """
        headers = headers_of(envelope or Envelope(doc_version=doc_version))  # a copy with more costs more than all this
        said = {} if message is None else {KIND: message.kind, CONTENT_TYPE: JSON}
        headers += [(name, value.encode()) for name, value in (said | inject()).items()]
        return await self.send(
            topic.name,
            None if message is None else encode(message),
            key=None if key is None else key.encode(),
            headers=headers,
            partition=partition,
        )

    async def cancel(self, run: str, *, step: str | None = None, tenant: str | None = None) -> None:
        """Have every worker stop work on a run, or on one step of it, and drop what waits of it.

        That there is such a run is not checked; of one that has ended nothing is left to stop.

        Args:
            run: The run's id.
            step: The step's name; None = the whole run.
            tenant: Whose it is; the process's own tenant by default.

        Raises:
            UnavailableError: The broker did not take it.
        """
        deadline = round((time.time() + BATCH.longest) * 1_000)
        await self._publish_cancel(Cancel(run=run, step=step, tenant=tenant or self.settings.tenant, deadline=deadline))

    async def _publish_cancel(self, cancel: Cancel) -> Position:
        return await self.publish(CANCEL, cancel, key=cancel.run)

    async def reply(
        self, address: Address, reply: EncodedMessage, *, run: str, step: str, stream: StreamWriter | None = None
    ) -> None:
        """Publish the reply to a message, after all of its stream; one that is too large becomes a fault."""
        counts = stream and await self.producer.fits(address.topic, reply.body)  # else what counts is a fault
        mark = await stream.finish(reply.message) if stream and counts else None
        envelope = Envelope(
            correlation_id=address.correlation_id,
            run=run,
            step=step,
            kind=reply.kind,
            content_type=JSON,
            stream=mark.stream if mark else None,
            seq=mark.last if mark else None,
            trace=inject(),
        )
        headers = headers_of(envelope)
        try:
            await self.send(address.topic, reply.body, key=None, headers=headers, partition=address.partition)
        except RecordTooLargeError as error:
            said = reply.message
            instead = said.shortened() if isinstance(said, Fault) else error.fault()
            if instead == said:
                raise
            await self.reply(address, EncodedMessage.of(instead), run=run, step=step, stream=stream)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> Position:
        """Send one record as it is and wait for the broker's acknowledgement.

        Raises:
            UnavailableError: The broker did not take it.
            TerminalError: It never will: the message is too large, or not one that the topic may have from us.
        """
        return await self.producer.send(topic, value, key=key, headers=headers, partition=partition)

    # -- listening ------------------------------------------------------------------------------------------------

    def follow(self, topic: str, *, start: Start = "beginning", partitions: Sequence[int] | None = None) -> LogStream:
        """Read a whole topic, without a group; see `LogStream`."""
        keep = self._undecodable.keep
        return LogStream(self.connection, topic, start=start, partitions=partitions, on_undecodable=keep)

    async def read_key(self, topic: str, key: str, *, since: float | None = None) -> list[Record]:
        """All records of a key that are in the topic now, oldest first; see `LogLookup.of_key`.

        Args:
            topic: A topic that is partitioned by its key.
            key: The key.
            since: Unix seconds: read from the first record written then or later.
        """
        return await self.lookups.read_key(topic, key, start="beginning" if since is None else float(since))

    async def read_topic(self, topic: str) -> list[Record]:
        """Everything that is in a topic now, of which little is kept; see `LogLookup.matching`."""
        return await self.lookups.matching(topic, lambda _: True)

    async def partition_of(self, topic: str, key: bytes) -> int:
        """The partition of a key in a topic."""
        partitions = await self.admin.partitions(topic)
        if partitions is None:
            raise SetupError(f"topic {topic} does not exist: create the topics with `poise topics apply`")
        return partition_for(key, partitions)

    async def topic_id(self, topic: str) -> str:
        """Kafka's id of a topic, which differs when the topic was deleted and made again."""
        return await self.admin.topic_id(topic)

    # -- serving --------------------------------------------------------------------------------------------------

    async def serve(self, tier: Tier) -> None:
        """Handle a tier's messages until stop is asked, then finish what is begun and leave.

        Raises:
            SetupError: Reading failed for good, for example because the broker refuses it; or the topics of a tier of
                one's own, or its processes, cannot be made.
        """
        await custom_tiers.ensure_topics(self.admin, tier)
        at_once = (tier.concurrency or self.settings.concurrency) * (len(tier.topics) + 1)  # and delayed retries
        receipts = IdempotencyGuard(StepResultStore(self.cache), self.settings.lease, self.liveness)
        async with receipts, executors.started(tier, at_once) as ready:
            await self._serve(TierRunner(self, self._broker, ready, receipts))

    async def _serve(self, serving: TierRunner) -> None:
        self._intakes = list(serving.intakes.values())
        for name, intake in serving.intakes.items():
            self.ready_when(name, intake.assigned.is_set)
        await self._stack.enter_async_context(self.cancels)  # to its end, before the first message comes
        try:
            await asyncio.gather(*(subscriber.start() for subscriber in self._broker.subscribers))
            await self.stopped()
        finally:  # while calls are still answered: begun work may need other tiers to finish
            self.cancels.leaving = True
            await asyncio.gather(*(intake.drain() for intake in self._intakes))

    async def stopped(self) -> None:
        """Wait until stop is asked.

        Raises:
            SetupError: A part of the process failed for good, or stands still; the message names it.
        """
        self._started = True  # every condition has been added: a process is not ready in between
        self.stop.install()
        with settled():
            await self.liveness.attend(self.stop.wait())
