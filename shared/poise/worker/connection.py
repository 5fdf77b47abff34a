"""The connection of one process to the mesh: its RPC client, producer and log readers."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self

from poise.contracts.topics import REPLIES
from poise.dead_letters.undecodable_batches import UndecodableBatchRecorder
from poise.kafka.admin import KafkaAdmin
from poise.kafka.connection import Connection
from poise.kafka.log_reader import LogAccess
from poise.kafka.log_stream import LogStream
from poise.kafka.logs import Logs
from poise.kafka.producer import Producer
from poise.kafka.record_size import TopicLimits
from poise.kafka.topic_identities import TopicIdentities
from poise.liveness import Liveness
from poise.rpc.calls import Calls
from poise.rpc.cancellation import CancellationRegistry
from poise.rpc.client import RpcClient
from poise.rpc.message_producer import MessageProducer
from poise.rpc.reply_address import ReplyAddressResolver
from poise.run_log.span_writer import SpanWriter
from poise.settings import MeshSettings
from poise.telemetry import observe, semconv
from poise.telemetry.endpoint import AdminEndpoint
from poise.telemetry.setup import Telemetry
from poise.worker.process import exit_eventually
from poise.worker.readiness import Readiness

log = logging.getLogger(__name__)

DISCONNECT_TIMEOUT: Final = 15.0
"""Seconds for disconnecting: a client library may wait forever for an unavailable broker."""


class MeshConnection:
    """Connects one process to the mesh; `async with MeshConnection(settings, tier="client") as mesh`.

    Attributes:
        rpc: Calls tiers.
        producer: Publishes messages.
        logs: Reads topics.
        admin: Describes and manages topics and groups.
        cancellation: Publishes and follows cancels.
        liveness: Supervises the components of the process.

    Raises:
        SetupError: On entering: no broker answers, topics are missing, or the admin port is taken.
    """

    def __init__(self, settings: MeshSettings, *, tier: str) -> None:
        self.settings = settings
        self.connection = Connection.of(settings)
        self.admin = KafkaAdmin(self.connection)
        self.addresses = ReplyAddressResolver(self.admin.partitions)
        self.liveness = Liveness(on_fatal=exit_eventually)
        self.topic_identities = TopicIdentities()
        limits = TopicLimits(self.admin.record_limits)
        records = Producer(self.connection, limits, self.topic_identities.leaderless, self.liveness)
        self.producer = MessageProducer(records)
        self._undecodable = UndecodableBatchRecorder(
            records.send, partial(LogStream, self.connection), settings.instance
        )
        access = LogAccess(self.connection, self.admin, self.liveness, self.topic_identities, self._undecodable.record)
        self.logs = Logs(access)
        self.rpc = RpcClient(self.admin, self.producer, settings.tenant)
        self.cancellation = CancellationRegistry(access, settings, self.rpc.publish_cancel)
        self._telemetry = Telemetry(settings, tier)
        self._ready = Readiness(self.admin, self.liveness, self.topic_identities)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect; when this returns, calls can be made."""
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; drop the connections to an unavailable broker after `DISCONNECT_TIMEOUT`."""
        try:
            async with asyncio.timeout(DISCONNECT_TIMEOUT):
                await self._stack.aclose()
        except TimeoutError:
            log.warning("the broker did not answer while disconnecting: its connections are dropped")

    async def _open(self, stack: AsyncExitStack) -> None:
        self._telemetry.start()
        stack.push_async_callback(self._telemetry.stop)
        if (port := self.settings.admin_port) is not None:
            host, exposition = self.settings.admin_host, self._telemetry.exposition
            endpoint = AdminEndpoint(host, port, self.readiness, exposition, self.settings.admin_allowed_hosts)
            await endpoint.start()
            stack.push_async_callback(endpoint.stop)
        stack.callback(observe(semconv.COMPONENT_AGE, self.liveness.ages))
        self.ready_when("broker", lambda: self._ready.broker_answers and self.rpc.connected)
        await stack.enter_async_context(self.admin)
        await stack.enter_async_context(self._ready)
        await stack.enter_async_context(self.producer.records)
        stack.push_async_callback(self.cancellation.flush)
        stack.push_async_callback(self._undecodable.flush)
        partitions = await self.admin.partitions(REPLIES.name) or REPLIES.partitions
        instance, send = self.settings.instance, self.producer.records.send
        calls = Calls(self.logs.access, instance, send, partitions, self.cancellation.publish_cancel_of)
        self.rpc.connect(await stack.enter_async_context(calls))
        await stack.enter_async_context(SpanWriter(self.producer.records, self._telemetry.spans, self.liveness))

    def ready_when(self, name: str, check: Callable[[], bool]) -> None:
        """Add a condition to `/readyz`."""
        self._ready.add(name, check)

    def readiness(self) -> dict[str, bool]:
        """Return the conditions, and whether each is met."""
        return self._ready.status()
