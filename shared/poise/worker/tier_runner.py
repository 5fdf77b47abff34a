"""The tier runner: the consumers of one tier in one process, each with the processor of its messages."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from poise.contracts.message import Message
from poise.contracts.topics import RETRY_DELAYS, Lane, retry_topic_name
from poise.kafka.consumer import ConcurrentConsumer, ConsumerLimits
from poise.kafka.faststream_adapter import Broker, subscribe
from poise.kafka.group_config import group_config
from poise.kafka.open_transactions import OpenTransactions
from poise.redis.client import RedisClient
from poise.worker import delayed_retries
from poise.worker.connection import MeshConnection
from poise.worker.delayed_retries import DelayedRetryDispatcher
from poise.worker.idempotency import IdempotencyGuard
from poise.worker.processor import MessageProcessor
from poise.worker.retry_policy import RetryBudget
from poise.worker.tier import Tier


class TierRunner:
    """A tier's consumers: one for each of its topics, and one for all its delayed retries.

    The lanes share the process. Each lane has its own consumer, so that one lane's backlog does not delay the fetches
    of the other. The batch lane gets a share of the concurrency, so that it cannot fill the process.
    """

    def __init__(
        self, mesh: MeshConnection, redis: RedisClient, broker: Broker, tier: Tier, guard: IdempotencyGuard
    ) -> None:
        self.consumers: dict[str, ConcurrentConsumer] = {}
        """By the name of the topic, and `retry`."""
        self._mesh = mesh
        self._broker = broker
        self._tier = tier
        budget = RetryBudget()
        processors = {topic.name: MessageProcessor(mesh, redis, tier, topic, guard, budget) for topic in tier.topics}
        for topic in tier.topics:
            processor = processors[topic.name]
            # A backlog is normal in the batch lane: its messages wait.
            options = {"ordered": topic.ordered, "reject": None if topic.lane == "batch" else processor.reject}
            self._consume(topic.name, [topic.name], processor.process, topic.lane, topic.accepts, **options)
            if math.isfinite(topic.deadlines.default):
                transactions = OpenTransactions(mesh.connection, processor.waiting_caller)
                self.consumers[topic.name].background.append(transactions.watch)
        if processors:
            by_topic = {name: processor.process_retry for name, processor in processors.items()}
            dispatcher = DelayedRetryDispatcher(by_topic, next(iter(processors.values())).results.dead_letter)
            names = [retry_topic_name(tier.name, delay) for delay in RETRY_DELAYS]
            due_at = delayed_retries.due_at
            self._consume("retry", names, dispatcher.dispatch, "batch", (Message,), not_before=due_at)

    def _consume(
        self,
        name: str,
        topics: list[str],
        process: Callable[..., Any],
        lane: Lane,
        accepts: tuple[type[Message], ...],
        **options: Any,
    ) -> None:
        group = consumer_group(self._tier.name, name)
        consumer = ConcurrentConsumer(
            process,
            limits=ConsumerLimits(concurrency=self._concurrency(lane)),
            fetch_state=partial(self._mesh.admin.group_state, group),
            component=self._mesh.liveness.component(f"consumer of {name}"),
            identities=self._mesh.topic_identities,
            **{"ordered": False} | options,
        )
        self.consumers[name] = consumer
        subscribe(self._broker, topics, group, consumer, accepts=accepts, options=group_config(self._mesh.settings))

    def _concurrency(self, lane: Lane) -> int:
        settings = self._mesh.settings
        concurrency = self._tier.concurrency or settings.concurrency
        return concurrency if lane == "interactive" else max(1, round(concurrency * settings.batch_share))


def consumer_group(tier: str, topic: str) -> str:
    """Return the consumer group in which a tier reads a topic: a rebalance of one lane does not affect the other."""
    return f"poise.{tier}:{topic}"
