"""The deciders of one partition: records of scores and commands in, what one transaction is to write out."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import ValidationError

from poise.contracts.envelope import Envelope
from poise.contracts.message import Message
from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicyState
from poise.contracts.record import Score
from poise.contracts.topics import DECISIONS, POLICY, POLICY_STATE, Topic
from poise.errors import SetupError
from poise.kafka.record import Record
from poise.kafka.transactions import ProducerRecord
from poise.policy.decider import Decider, NewerSnapshotError
from poise.telemetry import count, semconv

log = logging.getLogger(__name__)

JSON: Final = "application/json"
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class SourceTopics:
    """Of which topics the offsets are, by Kafka's ids: one that was deleted and made again has offsets of its own."""

    scores: str | None = None
    commands: str | None = None

    def scores_offset(self, state: PolicyState) -> int:
        """The next offset of `poise.scores`, as a snapshot has it; 0 where that is of another topic."""
        return state.scores if state.scores_id in {None, self.scores} else 0

    def commands_offset(self, state: PolicyState) -> int:
        """The next offset of `poise.policy.commands`, likewise."""
        return state.commands if state.commands_id in {None, self.commands} else 0


class PartitionDeciders:
    """The deciders of the policies that have a partition, and how far it has been read.

    What cannot be read, or makes a decider fail, is counted and passed over: it is the same record for whoever owns the
    partition next, and must not stop the decisions behind it.

    Args:
        partition: The partition's number.
        belongs: Whether a policy of that name has this partition.
        origin: The topics that scores and commands are read from.
    """

    def __init__(self, partition: int, belongs: Callable[[str], bool], origin: SourceTopics = SourceTopics()) -> None:
        self.partition = partition
        self.deciders: dict[str, Decider] = {}
        self.scores: int | None = None
        """The next offset of its partition of `poise.scores`; None = nothing was ever set here."""
        self.commands: int | None = None
        self.pending: list[tuple[Decision, Policy | None]] = []
        """Decisions that are not written yet, each with the policy that it put in force, if it did."""
        self.missing: list[Policy] = []
        """Policies in force that are not in the log any more, and are to be written again."""
        self._belongs = belongs
        self._origin = origin
        self._dirty: set[str] = set()

    @property
    def dirty(self) -> bool:
        """Whether something is remembered that is not written yet."""
        return bool(self._dirty)

    def restore(self, records: Sequence[Record]) -> None:
        """Go on from the snapshots, of which the last of each policy that can be read counts.

        All that has moved is written in each transaction: so the furthest offset of any is how far all have come.

        Raises:
            SetupError: A newer version of Poise wrote one: to go on from an older one would be to forget what is since.
        """
        for record in reversed(records):
            if (
                record.value is None
                or name_of(record) in self.deciders
                or (state := _read(record, PolicyState)) is None
            ):
                continue
            try:
                if state.name != name_of(record):
                    raise ValueError(f"it is of policy {state.name!r}")  # noqa: TRY301 - as whatever else is wrong with it
                self.deciders[state.name] = Decider.restore(state.decider)
            except NewerSnapshotError as error:
                raise SetupError(f"{record.position}, the state of a policy, cannot be read: {error}") from error
            except Exception as error:  # noqa: BLE001 - whatever it is: the one before it can be read, or what it led to
                _pass_over(record, repr(error))
                continue
            self._come_to(self._origin.scores_offset(state), self._origin.commands_offset(state))

    def compare(self, records: Iterable[Record]) -> Mapping[str, Sequence[Policy]]:
        """Hold what is remembered against what `poise.policy` has.

        A policy that is in force and missing there is written again: the topic was recreated. Returned is what is in
        force and remembered by nobody, or by a snapshot from before it; `resume` goes on from that.

        Args:
            records: All records of `poise.policy`.
        """
        found: dict[str, dict[int, Policy]] = {}
        for record in records:
            if self._belongs(name := name_of(record)) and record.value is not None:
                policy = _read(record, Policy)
                if policy is not None and policy.name == name:
                    found.setdefault(name, {})[policy.version] = policy
        self.missing = []
        for name, decider in self.deciders.items():
            if decider.policy is not None and max(found.get(name, {}), default=0) < decider.policy.version:
                log.warning("policy %s is not in %s any more, and is written again", name, POLICY.name)
                self.missing.append(decider.policy)
        known = {name: one.policy.version if one.policy else 0 for name, one in self.deciders.items()}
        return {
            name: [versions[version] for version in sorted(versions)]
            for name, versions in found.items()
            if max(versions) > known.get(name, 0)
        }

    def resume(self, policies: Sequence[Policy], decisions: Sequence[Record]) -> None:
        """Go on without a snapshot, from what was put in force and decided; what was counted is lost.

        Args:
            policies: What was put in force, oldest first.
            decisions: The records of the decisions over it, oldest first.
        """
        name = policies[-1].name
        made = [decision for record in decisions if (decision := _read(record, Decision)) is not None]
        self.deciders[name] = Decider.resume(policies, made)
        self._dirty.add(name)
        self._come_to(made[-1].scores if made else 0, None)
        log.warning("the state of policy %s is lost: it stays in force, and its answers are counted from 0", name)

    def _come_to(self, scores: int, commands: int | None) -> None:
        self.scores = max(self.scores or 0, scores)
        if commands is not None:
            self.commands = max(self.commands or 0, commands)

    # -- taking in ------------------------------------------------------------------------------------------------

    def apply_scores(self, records: Iterable[Record]) -> None:
        """Take in scores, in the order of their offsets."""
        for record in records:
            self.scores = record.offset + 1
            name = name_of(record)
            decider = self.deciders.get(name)
            if decider is None or (score := _read(record, Score)) is None:
                continue
            try:
                self._note(decider, decider.apply_score(score, record.offset))
            except Exception:
                log.exception("%s: a score of %s could not be weighed and is passed over", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
            self._dirty.add(name)

    def apply_commands(self, records: Iterable[Record]) -> None:
        """Take in commands, in the order of their offsets."""
        for record in records:
            self.commands = record.offset + 1
            name = name_of(record)
            if not self._belongs(name):
                log.warning("%s: policy %r has another partition: passed over", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
                continue
            if (command := _read(record, PolicyCommand)) is None:
                continue
            decider = self.deciders.get(name) or Decider(name, self.scores or 0)
            try:
                self._note(decider, decider.apply_command(command, record.timestamp))
            except Exception:
                log.exception("%s: what was asked of %s could not be done, and is passed over", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
                continue
            self.deciders[name] = decider
            self._dirty.add(name)

    def _note(self, decider: Decider, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self.pending.append((decision, decider.policy if decision.acted else None))

    # -- writing down ---------------------------------------------------------------------------------------------

    def transaction_records(self) -> Iterator[ProducerRecord]:
        """What is to be written, all of it or nothing: policies and decisions in their order, then the snapshots."""
        for lost in self.missing:
            yield _outgoing(POLICY, lost, lost.name)
        for decision, policy in self.pending:
            if policy is not None:
                yield _outgoing(POLICY, policy, policy.name)
            yield _outgoing(DECISIONS, decision, decision.policy)
        for name in sorted(self._dirty):
            state = PolicyState(
                name=name,
                scores=self.scores or 0,
                commands=self.commands or 0,
                scores_id=self._origin.scores,
                commands_id=self._origin.commands,
                decider=self.deciders[name].snapshot(),
            )
            yield _outgoing(POLICY_STATE, state, name, self.partition)

    def mark_written(self) -> None:
        """Note that it was: only now was it decided. Who is shut out would else tell what never was."""
        for decision, _ in self.pending:
            _tell(decision)
        self.pending, self.missing = [], []
        self._dirty = set()


def _tell(decision: Decision) -> None:
    """Tell operators of a decision; that a variant is in trouble, also where nothing is done about it."""
    trouble = decision.command is None and decision.action != "promote"
    acted = "" if decision.acted else " (not acted)"
    level = logging.WARNING if trouble else logging.INFO
    log.log(level, "%s %s%s: %s", decision.policy, decision.action, acted, decision.reason)
    what = {semconv.POLICY: decision.policy, semconv.ACTION: decision.action}
    count(semconv.DECISIONS, 1, {**what, semconv.ACTED: decision.acted})


def name_of(record: Record) -> str:
    """The policy that a record is about."""
    return (record.key or b"").decode(errors="replace")


def _read(record: Record, kind: type[MessageT]) -> MessageT | None:
    """The message; None = it cannot be read."""
    said = record.header("poise-kind") or kind.kind
    why = f"it is a {said}, not a {kind.kind}"
    if said == kind.kind:
        try:
            return kind.parse(record.value or b"")
        except ValidationError as error:
            why = str(error)
    _pass_over(record, why)
    return None


def _pass_over(record: Record, why: str) -> None:
    log.warning("%s cannot be read and is passed over: %s", record.position, why)
    count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})


def _outgoing(topic: Topic, message: Message, key: str, partition: int | None = None) -> ProducerRecord:
    headers = Envelope(kind=message.kind, content_type=JSON).headers()
    return ProducerRecord(topic.name, key.encode(), message.encode(), list(headers), partition)
