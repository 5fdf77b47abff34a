"""The worker runtime: one process of a tier, from its first connection to its orderly shutdown."""

import asyncio
from contextlib import AsyncExitStack

from poise.kafka.consumer import ConcurrentConsumer
from poise.kafka.faststream_adapter import new_broker
from poise.redis.client import RedisClient
from poise.redis.lease import LeaseHolder
from poise.redis.lease_store import LeaseStore
from poise.settings import MeshSettings
from poise.worker import custom_tiers, executors
from poise.worker.connection import MeshConnection
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.process import StopSignal, frozen_gc
from poise.worker.tier import Tier
from poise.worker.tier_runner import TierRunner


class WorkerRuntime(MeshConnection):
    """Runs one worker; `async with WorkerRuntime(settings, tier="retrieval") as runtime: await runtime.serve(tier)`.

    Attributes:
        redis: The Redis client.
        leases: Holds the leases of this worker while it serves.
        stop: Set to stop the worker.
    """

    def __init__(self, settings: MeshSettings, *, tier: str) -> None:
        super().__init__(settings, tier=tier)
        self.redis = RedisClient(settings.redis_url, liveness=self.liveness)
        self.leases = LeaseHolder(LeaseStore(self.redis), settings.lease_ttl, self.liveness)
        self.stop = StopSignal()
        self._broker = new_broker(self.connection)
        self._started = False
        self._consumers: list[ConcurrentConsumer] = []

    async def _open(self, stack: AsyncExitStack) -> None:
        self.ready_when("started", lambda: self._started)
        await super()._open(stack)
        await stack.enter_async_context(self.redis)
        await self._broker.start()
        stack.push_async_callback(self._broker.stop)

    async def serve(self, tier: Tier) -> None:
        """Handle a tier's messages until the stop signal, then finish the messages in progress and leave the groups.

        Raises:
            SetupError: Reading failed permanently, for example because the broker refuses it; or the topics or
                processes of a custom tier cannot be created.
        """
        await custom_tiers.ensure_topics(self.admin, tier.name, tier.custom_topics)
        concurrency = (tier.concurrency or self.settings.concurrency) * (len(tier.topics) + 1)  # and delayed retries
        async with self.leases, executors.start_handlers(tier.handlers, tier.name, concurrency) as handlers:
            guard = IdempotencyGuard(self.leases)
            await self._serve(TierRunner(self, self.redis, self._broker, tier.with_handlers(handlers), guard))

    async def _serve(self, runner: TierRunner) -> None:
        self._consumers = list(runner.consumers.values())
        for name, consumer in runner.consumers.items():
            self.ready_when(name, consumer.assigned.is_set)
        await self._stack.enter_async_context(self.cancellation)  # read to its end before the first message
        try:
            await asyncio.gather(*(subscriber.start() for subscriber in self._broker.subscribers))
            await self.wait_for_stop()
        finally:  # while replies still arrive: messages in progress may need other tiers to finish
            self.cancellation.stopping = True
            await asyncio.gather(*(consumer.drain() for consumer in self._consumers))

    async def wait_for_stop(self) -> None:
        """Wait for the stop signal.

        Raises:
            SetupError: A component of the process failed permanently, or stalls; the message names it.
        """
        self._started = True  # every condition is added: otherwise the process would be ready in between
        self.stop.install()
        with frozen_gc():
            await self.liveness.watch_while(self.stop.wait())
