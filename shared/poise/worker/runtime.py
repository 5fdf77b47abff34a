"""The worker runtime: one process of a tier, from its first connection to an orderly end."""

import asyncio
from contextlib import AsyncExitStack

from poise.kafka.consumer import ConcurrentConsumer
from poise.kafka.faststream_adapter import new_broker
from poise.redis.client import RedisClient
from poise.redis.step_results import StepResultStore
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
        redis: The cache.
        stop: Set when the worker is to stop.
    """

    def __init__(self, settings: MeshSettings, *, tier: str) -> None:
        super().__init__(settings, tier=tier)
        self.redis = RedisClient(settings.redis_url, liveness=self.liveness)
        self.stop = StopSignal()
        self._broker = new_broker(self.connection)
        self._started = False
        self._intakes: list[ConcurrentConsumer] = []

    async def _open(self, stack: AsyncExitStack) -> None:
        self.ready_when("started", lambda: self._started)
        await super()._open(stack)
        await stack.enter_async_context(self.redis)
        await self._broker.start()
        stack.push_async_callback(self._broker.stop)

    async def serve(self, tier: Tier) -> None:
        """Handle a tier's messages until the stop signal, then finish begun work and leave.

        Raises:
            SetupError: Reading failed for good, for example because the broker refuses it; or the topics or processes
                of a custom tier cannot be created.
        """
        await custom_tiers.ensure_topics(self.admin, tier.name, tier.own_topics)
        concurrency = (tier.concurrency or self.settings.concurrency) * (len(tier.topics) + 1)  # and delayed retries
        receipts = IdempotencyGuard(StepResultStore(self.redis), self.settings.lease_ttl, self.liveness)
        async with receipts, executors.start_handlers(tier.handlers, tier.name, concurrency) as handlers:
            await self._serve(TierRunner(self, self.redis, self._broker, tier.with_handlers(handlers), receipts))

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
        """Wait for the stop signal.

        Raises:
            SetupError: A part of the process failed for good, or stands still; the message names it.
        """
        self._started = True  # every condition has been added: a process is not ready in between
        self.stop.install()
        with frozen_gc():
            await self.liveness.watch_while(self.stop.wait())
