"""Observer: reads the topics of the act into its timeline."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from poise.cli.text import clean
from poise.contracts.message import Message
from poise.contracts.policy import DECREASES, Decision, Policy, PolicyState
from poise.contracts.record import RunRecord, Score
from poise.contracts.topics import DECISIONS, POLICY, POLICY_STATE, SCORES
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Record
from poise.policy.decider import Decider, NewerSnapshotError
from poise.policy.detection.recovery_e_process import RECOVERY_THRESHOLD
from poise.run_log.lookup import RunLog
from poise.worker.connection import MeshConnection
from poise_labs.balance.timeline import EvidencePoint, Example, ScoredAnswer, Timeline, TimelineEvent, WeightsPoint

SCORE_NAME: Final = "quality"
OBSERVED_TOPICS: Final = ((SCORES, Score), (DECISIONS, Decision), (POLICY, Policy), (POLICY_STATE, PolicyState))
EXAMPLE_CANDIDATES: Final = 8
"""Answers that are considered as an example."""
MAX_EXAMPLE_CHARS: Final = 200
"""Characters of an example's answer."""


class BalanceObserver:
    """Follows scores, decisions and the policy in force; `async with BalanceObserver(…) as observer`.

    Args:
        mesh: The connection.
        timeline: Receives the observations.
        policy: The policy's name.

    Raises:
        SetupError: On entering, if the topics cannot be read.
    """

    def __init__(self, mesh: MeshConnection, timeline: Timeline, policy: str) -> None:
        self.timeline = timeline
        self.decisions: list[Decision] = []
        self._mesh = mesh
        self._policy = policy
        self._counted: set[str] = set()
        self._scored: set[str] = set()
        self._changed = asyncio.Event()
        self._open = AsyncExitStack()
        self._readers: list[LogReader] = []

    async def __aenter__(self) -> Self:
        """Start reading at the end of the topics."""
        async with AsyncExitStack() as stack:
            for topic, kind in OBSERVED_TOPICS:
                number = await self._mesh.logs.partition_of(topic.name, self._policy.encode())
                apply = partial(self._apply_record, kind)
                reader = LogReader(self._mesh.logs.access, topic.name, apply, start="end", partitions=[number])
                self._readers.append(await stack.enter_async_context(reader))
                await reader.wait_until_open()
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        await self._open.aclose()

    async def until(self, condition: Callable[[Timeline], bool], *, answers: int, seconds: float = math.inf) -> bool:
        """Wait until a condition is true of the timeline.

        Args:
            condition: The condition.
            answers: The maximum number of further answers to wait for.
            seconds: The maximum time to wait.

        Returns:
            Whether the condition became true.

        Raises:
            SetupError: A topic can no longer be read.
        """
        limit = len(self.timeline.answers) + answers
        ends = time.monotonic() + seconds
        while not condition(self.timeline):
            left = ends - time.monotonic()
            if len(self.timeline.answers) >= limit or left <= 0:
                return False
            self._changed.clear()
            await self._wait_for_change(min(left, 1.0))
        return True

    async def scored(self, run: str, *, seconds: float) -> bool:
        """Wait until a run is scored; return whether it was within `seconds`."""
        ends = time.monotonic() + seconds
        while run not in self._scored:
            left = ends - time.monotonic()
            if left <= 0:
                return False
            self._changed.clear()
            await self._wait_for_change(min(left, 1.0))
        return True

    async def find_example(self) -> None:
        """Find an example among the answers of the first alarm: the worst that is short enough to show."""
        found = next(
            (one.finding for one in self.decisions if one.action in DECREASES and one.finding is not None), None
        )
        runs = found.runs[:EXAMPLE_CANDIDATES] if found is not None else ()
        records = await RunLog(self._mesh.logs, self._mesh.settings.clock_skew).records(runs)
        examples = [_example(records[run]) for run in runs if run in records]
        self.timeline.example = next((one for one in examples if one is not None), None)

    async def _wait_for_change(self, seconds: float) -> None:
        """Wait for a new observation, for at most `seconds`."""
        with suppress(TimeoutError):  # nothing changed meanwhile
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        for reader in self._readers:
            if (ended := reader.failure) is not None:
                raise ended

    def _apply_record(self, kind: type[Message], record: Record) -> None:
        if record.key == self._policy.encode():
            self.apply(kind.parse(record.value or b""))
            self._changed.set()

    def apply(self, message: Message) -> None:
        """Add a message to the timeline."""
        match message:
            case Score():
                self._score(message)
            case Decision():
                self.decisions.append(message)
                self._decision(message)
            case Policy():
                self.timeline.weights.append(WeightsPoint(message.at, dict(message.weights)))
            case PolicyState():
                self._evidence(message)

    def _score(self, score: Score) -> None:
        self._scored.add(score.run_id)
        quality = score.values.get(SCORE_NAME)
        if quality is not None and score.feedback is None and score.run_id not in self._counted:
            self._counted.add(score.run_id)
            self.timeline.answers.append(ScoredAnswer(score.at, score.variant, quality))

    def _evidence(self, state: PolicyState) -> None:
        """Store the evidence about the suspect from the decider's last snapshot."""
        try:
            detectors = Decider.restore(state.decider).detectors
        except (ValueError, NewerSnapshotError):  # written by a newer worker: the evidence is not shown
            return
        if detectors is None:
            return
        suspect = self.timeline.suspect
        recovery = detectors.recovery_evidence(suspect)
        if recovery is not None:
            self.timeline.evidence = EvidencePoint(recovery, RECOVERY_THRESHOLD, recovery=True)
        else:
            self.timeline.evidence = EvidencePoint(detectors.evidence().get(suspect, 0.0), detectors.threshold)

    def _decision(self, decision: Decision) -> None:
        self.timeline.events += events_of(decision)


def _example(record: RunRecord) -> Example | None:
    draw = record.draw
    if draw is None or not draw.raw or len(draw.raw) > MAX_EXAMPLE_CHARS or draw.finish_reason == "length":
        return None
    return Example(clean(record.question), clean(" ".join(draw.raw.split())))


def events_of(decision: Decision) -> Sequence[TimelineEvent]:
    """Return the timeline events of a decision."""
    at, reason = decision.at, decision.reason
    if decision.action in DECREASES:
        return [TimelineEvent(at, "noticed", reason)]
    if decision.action == "promote":
        return [TimelineEvent(at, "restored", reason)]
    if decision.action == "set":
        return [TimelineEvent(at, "set", reason)]
    return [TimelineEvent(at, "note", f"{decision.action}: {reason}")]
