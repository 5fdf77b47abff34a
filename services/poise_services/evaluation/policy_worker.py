"""The policy worker: one worker at a time decides on the policies of a partition, and fences its predecessor."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self

from poise.contracts.topics import COMMANDS, DECISIONS, POLICY, POLICY_STATE, SCORES
from poise.errors import UnavailableError
from poise.kafka.log_stream import LogStream, Start, read_all
from poise.kafka.partition_ownership import PartitionOwnership
from poise.kafka.partitioner import partition_for
from poise.kafka.record import Record
from poise.kafka.transactions import TransactionalProducer
from poise.liveness import Component
from poise.policy.command_execution import MAX_COMMANDS
from poise.telemetry import observe, semconv
from poise.telemetry.metrics import Measurement
from poise.worker.connection import MeshConnection
from poise_services.evaluation.partition_deciders import PartitionDeciders, SourceTopics
from poise_services.evaluation.settings import EvaluationSettings

GROUP: Final = "poise.evaluation:deciding"
TRANSACTIONAL_ID_PREFIX: Final = "poise.decider."
"""The prefix of transactional ids; the partition number follows."""
SNAPSHOT_INTERVAL: Final = 5.0
"""Seconds between two snapshots without a decision. The next owner applies the scores since the last one again."""
BATCH_SIZE: Final = 200
"""Scores applied before the event loop runs other tasks."""
READ_TIMEOUT: Final = 30.0
"""Maximum seconds to read the snapshots of a partition."""


class PolicyWorker:
    """Decides on the policies of the partitions that this worker owns: `async with PolicyWorker(mesh)`."""

    def __init__(self, mesh: MeshConnection) -> None:
        self._mesh = mesh
        self._ownership = PartitionOwnership(mesh.logs.access, mesh.settings, SCORES.name, GROUP, self._decide)
        self._partitions: dict[int, tuple[PartitionDeciders, LogStream]] = {}
        """The partitions that this worker decides on."""
        self._metrics = ExitStack()

    async def __aenter__(self) -> Self:
        """Join the group of policy workers."""
        self._mesh.ready_when("deciding", self._ownership.assigned.is_set)
        self._metrics.callback(observe(semconv.POLICY_WEIGHT, self._weights))
        self._metrics.callback(observe(semconv.DECIDING_LAG, self._lag))
        await self._ownership.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the group."""
        self._metrics.close()
        await self._ownership.__aexit__(kind, error, traceback)

    # -- one partition --------------------------------------------------------------------------------------------

    async def _decide(self, partition: int, component: Component) -> None:
        """Decide on the policies of a partition until cancelled or failed.

        1. Opening the transactions fences the previous owner; what it committed can be read.
        2. The snapshots and the policies in force are read to their end; from here on no other worker writes any. If
           one of the two is lost, this worker continues from the other.
        3. Scores and commands are followed from the offsets of the snapshots.
        4. Decisions are written together with the snapshots, in one transaction.

        A failure, a commit with an unknown result, or a recreated topic ends this; the next owner starts at 1.
        """
        async with self._recreation_check() as check:
            progress = _PollProgress(component, check)
            await self._wait_for_policy(partition, progress)
            async with TransactionalProducer(
                self._mesh.connection, f"{TRANSACTIONAL_ID_PREFIX}{partition}"
            ) as transactions:
                deciders = await self._restore(partition)
                start: Start = (
                    "beginning" if deciders.next_command_offset is None else {partition: deciders.next_command_offset}
                )
                async with self._mesh.logs.open_stream(COMMANDS.name, start=start, partitions=[partition]) as commands:
                    backlog = [record async for batch in commands.read_to_end() for record in batch]
                    start = _scores_start(partition, deciders.next_score_offset, backlog)
                    async with self._mesh.logs.open_stream(SCORES.name, start=start, partitions=[partition]) as scores:
                        deciders.next_score_offset = scores.position(partition)
                        # Commands sent while no worker was deciding apply to the scores since then.
                        deciders.apply_commands(backlog)
                        self._partitions[partition] = deciders, scores
                        try:
                            await self._run(deciders, transactions, (progress.read(commands), progress.read(scores)))
                        finally:
                            del self._partitions[partition]

    @asynccontextmanager
    async def _recreation_check(self) -> AsyncIterator[Callable[[], None]]:
        """Yield a check that raises once one of the topics was deleted and recreated."""
        recreated: list[str] = []
        identities = self._mesh.topic_identities
        names = [topic.name for topic in (POLICY, POLICY_STATE, COMMANDS, SCORES)]
        topics = await self._mesh.admin.describe(names)
        watched = {name: partial(_append_name, recreated, name) for name in names}

        def check() -> None:
            if recreated:
                raise UnavailableError(f"topic {recreated[0]} was deleted and recreated")

        for name, callback in watched.items():
            identities.watch(name, callback, known=topics[name].id if name in topics else None)
        try:
            yield check
        finally:
            for name, callback in watched.items():
                identities.unwatch(name, callback)

    async def _wait_for_policy(self, partition: int, progress: "_PollProgress") -> None:
        """Wait until the partition has a policy or a command: most have none, and need no transactional producer."""
        async with self._mesh.logs.open_stream(POLICY_STATE.name, partitions=[partition]) as states:
            async for _ in states.read_to_end():
                return
        belongs = await self._belongs_to(partition)
        if await self._mesh.logs.lookups.matching(
            POLICY.name, lambda record: belongs((record.key or b"").decode(errors="replace"))
        ):
            return
        async with self._mesh.logs.open_stream(COMMANDS.name, partitions=[partition]) as commands:
            async for records in progress.read(commands):
                if records:
                    return

    async def _belongs_to(self, partition: int) -> Callable[[str], bool]:
        """Return the check whether a policy belongs to a partition."""
        partitions = await self._mesh.admin.partitions(COMMANDS.name) or COMMANDS.partitions
        return lambda name: partition_for(name.encode(), partitions) == partition

    async def _restore(self, partition: int) -> PartitionDeciders:
        sources = SourceTopics(
            await self._mesh.logs.topic_id(SCORES.name), await self._mesh.logs.topic_id(COMMANDS.name)
        )
        deciders = PartitionDeciders(partition, await self._belongs_to(partition), sources)
        async with self._mesh.logs.open_stream(POLICY_STATE.name, partitions=[partition]) as states:
            deciders.restore(await read_all(states, within=READ_TIMEOUT))
        for name, policies in deciders.reconcile(await self._mesh.logs.read_topic(POLICY.name)).items():
            deciders.resume(policies, await self._decisions(name))
        return deciders

    async def _decisions(self, name: str) -> Sequence[Record]:
        """Return the last decisions about a policy: as many as a decider remembers commands."""
        decisions: deque[Record] = deque(maxlen=MAX_COMMANDS)
        partition = await self._mesh.logs.partition_of(DECISIONS.name, name.encode())
        async with aclosing(self._mesh.logs.lookups.scan(DECISIONS.name, partitions=[partition])) as records:
            async for record in records:
                if record.key == name.encode():
                    decisions.append(record)
        return decisions

    async def _run(
        self,
        deciders: PartitionDeciders,
        transactions: TransactionalProducer,
        readers: tuple[AsyncIterator[list[Record]], ...],
    ) -> None:
        """Apply commands and scores as they arrive, commands first; write decisions at once, snapshots regularly."""
        loop = asyncio.get_running_loop()
        written_at = loop.time()
        pending_reads = [asyncio.ensure_future(anext(reader)) for reader in readers]
        try:
            while True:
                snapshot_due = deciders.dirty and loop.time() - written_at >= SNAPSHOT_INTERVAL
                if deciders.pending or deciders.missing_policies or snapshot_due:
                    async with transactions.transaction() as transaction:
                        await transaction.send(list(deciders.transaction_records()))
                    deciders.mark_written()
                    written_at = loop.time()
                wait = max(0.0, written_at + SNAPSHOT_INTERVAL - loop.time()) if deciders.dirty else None
                await asyncio.wait(pending_reads, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for index, apply in enumerate((deciders.apply_commands, deciders.apply_scores)):
                    if pending_reads[index].done():
                        await _apply_in_batches(apply, pending_reads[index].result())
                        pending_reads[index] = asyncio.ensure_future(anext(readers[index]))
        finally:
            for pending in pending_reads:
                pending.cancel()
            await asyncio.gather(*pending_reads, return_exceptions=True)

    # -- metrics -----------------------------------------------------------------------------------------------

    def _weights(self) -> Iterator[Measurement]:
        for deciders, _ in tuple(self._partitions.values()):
            for name, decider in tuple(deciders.deciders.items()):
                for variant, weight in decider.policy.weights.items() if decider.policy else ():
                    yield weight, {semconv.POLICY: name, semconv.VARIANT: variant}

    def _lag(self) -> Iterator[Measurement]:
        for partition, (_, scores) in tuple(self._partitions.items()):
            yield scores.lag(), {semconv.MESSAGING_PARTITION: partition}


class _PollProgress:
    """Reads logs, and reports progress of a component each time that all of them were polled."""

    def __init__(self, component: Component, check: Callable[[], None]) -> None:
        self._component = component
        self._check = check
        self._polled: dict[LogStream, bool] = {}

    async def read(self, log: LogStream) -> AsyncIterator[list[Record]]:
        """Yield batches as they arrive, an empty one if none arrived for a second.

        Raises:
            UnavailableError: The broker does not answer for the log, or its topic was recreated.
        """
        self._polled[log] = False
        try:
            async for records in log.polls():
                self._check()
                if log.stalled_partitions():
                    raise UnavailableError(f"the broker does not answer for topic {log.topic}")
                self._polled[log] = True
                if all(self._polled.values()):
                    self._component.progress()
                    self._polled = dict.fromkeys(self._polled, False)
                yield records
        finally:
            del self._polled[log]


def _append_name(names: list[str], name: str, _: str) -> None:
    names.append(name)


async def _apply_in_batches(apply: Callable[[Sequence[Record]], None], records: Sequence[Record]) -> None:
    for first in range(0, len(records), BATCH_SIZE):
        apply(records[first : first + BATCH_SIZE])
        await asyncio.sleep(0)


def _scores_start(partition: int, next_offset: int | None, backlog: Sequence[Record]) -> Start:
    """Return where to start reading scores: no policy existed for scores older than the first command."""
    if next_offset is not None:
        return {partition: next_offset}
    return float(backlog[0].timestamp) if backlog else "end"


@asynccontextmanager
async def policy_worker(mesh: MeshConnection, settings: EvaluationSettings) -> AsyncIterator[None]:
    """Decide on policies, if the settings allow this worker to."""
    if not settings.decide:
        yield
        return
    async with PolicyWorker(mesh):
        yield
