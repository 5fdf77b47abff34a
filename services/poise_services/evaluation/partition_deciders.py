"""The deciders of one partition: apply scores and commands, and return the records of the next transaction."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import ValidationError

from poise.contracts.envelope import Envelope
from poise.contracts.headers import KIND
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
    """The ids of the topics that offsets belong to: a recreated topic has another id and new offsets."""

    scores_id: str | None = None
    commands_id: str | None = None

    def scores_offset(self, state: PolicyState) -> int:
        """Return the next offset of `poise.scores` of a snapshot; 0 if it belongs to another topic."""
        return state.next_score_offset if state.scores_id in {None, self.scores_id} else 0

    def commands_offset(self, state: PolicyState) -> int:
        """Return the next offset of `poise.policy.commands` of a snapshot; 0 if it belongs to another topic."""
        return state.next_command_offset if state.commands_id in {None, self.commands_id} else 0


class PartitionDeciders:
    """The deciders of the policies of a partition, and the offsets up to which it was read.

    A record that cannot be decoded, or makes a decider fail, is counted and skipped: it would fail for the next owner
    of the partition too, and must not block the decisions behind it.

    Args:
        partition: The partition's number.
        belongs: Returns whether a policy of a name belongs to this partition.
        sources: The topics that scores and commands are read from.
    """

    def __init__(self, partition: int, belongs: Callable[[str], bool], sources: SourceTopics = SourceTopics()) -> None:
        self.partition = partition
        self.deciders: dict[str, Decider] = {}
        self.next_score_offset: int | None = None
        """The next offset of the partition of `poise.scores`; None = no policy was ever set here."""
        self.next_command_offset: int | None = None
        self.pending: list[tuple[Decision, Policy | None]] = []
        """Decisions not yet written, each with the policy that it put in force, if any."""
        self.missing_policies: list[Policy] = []
        """Policies in force that are no longer in the log, and are written again."""
        self._belongs = belongs
        self._sources = sources
        self._dirty: set[str] = set()

    @property
    def dirty(self) -> bool:
        """Whether there is state that is not yet written."""
        return bool(self._dirty)

    def restore(self, records: Sequence[Record]) -> None:
        """Continue from the last readable snapshot of each policy.

        Each transaction writes all changed state, so the highest offset of any snapshot holds for all of them.

        Raises:
            SetupError: A newer version of Poise wrote one: continuing from an older snapshot would lose what happened
            since.
        """
        for record in reversed(records):
            if record.value is None or name_of(record) in self.deciders:
                continue
            state = _read(record, PolicyState)
            if state is None:
                continue
            try:
                if state.name != name_of(record):
                    raise ValueError(f"it is of policy {state.name!r}")  # noqa: TRY301 - handled as all its errors
                self.deciders[state.name] = Decider.restore(state.decider)
            except NewerSnapshotError as error:
                raise SetupError(f"{record.position}, the state of a policy, cannot be read: {error}") from error
            except Exception as error:  # noqa: BLE001 - an earlier snapshot or the policy log may be readable
                _skip(record, repr(error))
                continue
            self._advance_to(self._sources.scores_offset(state), self._sources.commands_offset(state))

    def reconcile(self, records: Iterable[Record]) -> Mapping[str, Sequence[Policy]]:
        """Reconcile the restored state with `poise.policy`.

        A restored policy that is missing there becomes one of `missing_policies`: the topic was recreated.

        Returns:
            The policies in the log that have no snapshot, or an older one, for `resume`: their versions, oldest first.

        Args:
            records: All records of `poise.policy`.
        """
        versions_by_name: dict[str, dict[int, Policy]] = {}
        for record in records:
            if self._belongs(name := name_of(record)) and record.value is not None:
                policy = _read(record, Policy)
                if policy is not None and policy.name == name:
                    versions_by_name.setdefault(name, {})[policy.version] = policy
        self.missing_policies = []
        for name, decider in self.deciders.items():
            if decider.policy is not None and max(versions_by_name.get(name, {}), default=0) < decider.policy.version:
                log.warning("policy %s is no longer in %s and is written again", name, POLICY.name)
                self.missing_policies.append(decider.policy)
        restored_versions = {
            name: decider.policy.version if decider.policy else 0 for name, decider in self.deciders.items()
        }
        return {
            name: [versions[version] for version in sorted(versions)]
            for name, versions in versions_by_name.items()
            if max(versions) > restored_versions.get(name, 0)
        }

    def resume(self, policies: Sequence[Policy], decisions: Sequence[Record]) -> None:
        """Continue without a snapshot, from the policies and decisions in the logs; the counts are lost.

        Args:
            policies: The versions of the policy, oldest first.
            decisions: The records of its decisions, oldest first.
        """
        name = policies[-1].name
        past_decisions = [decision for record in decisions if (decision := _read(record, Decision)) is not None]
        self.deciders[name] = Decider.resume(policies, past_decisions)
        self._dirty.add(name)
        self._advance_to(past_decisions[-1].next_score_offset if past_decisions else 0, None)
        log.warning("the state of policy %s is lost: it stays in force, and its answers are counted from 0", name)

    def _advance_to(self, scores: int, commands: int | None) -> None:
        self.next_score_offset = max(self.next_score_offset or 0, scores)
        if commands is not None:
            self.next_command_offset = max(self.next_command_offset or 0, commands)

    # -- input ------------------------------------------------------------------------------------------------

    def apply_scores(self, records: Iterable[Record]) -> None:
        """Apply scores in the order of their offsets."""
        for record in records:
            self.next_score_offset = record.offset + 1
            name = name_of(record)
            decider = self.deciders.get(name)
            if decider is None or (score := _read(record, Score)) is None:
                continue
            try:
                self._add_pending(decider, decider.apply_score(score, record.offset))
            except Exception:
                log.exception("%s: a score of %s could not be applied and is skipped", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
            self._dirty.add(name)

    def apply_commands(self, records: Iterable[Record]) -> None:
        """Apply commands in the order of their offsets."""
        for record in records:
            self.next_command_offset = record.offset + 1
            name = name_of(record)
            if not self._belongs(name):
                log.warning("%s: policy %r belongs to another partition: skipped", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
                continue
            if (command := _read(record, PolicyCommand)) is None:
                continue
            decider = self.deciders.get(name) or Decider(name, self.next_score_offset or 0)
            try:
                self._add_pending(decider, decider.apply_command(command, record.timestamp))
            except Exception:
                log.exception("%s: a command for %s could not be executed and is skipped", record.position, name)
                count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})
                continue
            self.deciders[name] = decider
            self._dirty.add(name)

    def _add_pending(self, decider: Decider, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self.pending.append((decision, decider.policy if decision.acted else None))

    # -- output ---------------------------------------------------------------------------------------------

    def transaction_records(self) -> Iterator[ProducerRecord]:
        """Yield the records of the next transaction: policies and decisions in order, then the snapshots."""
        for missing in self.missing_policies:
            yield _record_of(POLICY, missing, missing.name)
        for decision, policy in self.pending:
            if policy is not None:
                yield _record_of(POLICY, policy, policy.name)
            yield _record_of(DECISIONS, decision, decision.policy)
        for name in sorted(self._dirty):
            state = PolicyState(
                name=name,
                next_score_offset=self.next_score_offset or 0,
                next_command_offset=self.next_command_offset or 0,
                scores_id=self._sources.scores_id,
                commands_id=self._sources.commands_id,
                decider=self.deciders[name].snapshot(),
            )
            yield _record_of(POLICY_STATE, state, name, self.partition)

    def mark_written(self) -> None:
        """Mark all state as written, and report the decisions; those of a fenced worker must not be reported."""
        for decision, _ in self.pending:
            _report(decision)
        self.pending = []
        self.missing_policies = []
        self._dirty = set()


def _report(decision: Decision) -> None:
    """Log and count a decision; one about an incident is a warning, even if the weights stay."""
    incident = decision.command is None and decision.action != "promote"
    acted = "" if decision.acted else " (not acted)"
    level = logging.WARNING if incident else logging.INFO
    log.log(level, "%s %s%s: %s", decision.policy, decision.action, acted, decision.reason)
    labels = {semconv.POLICY: decision.policy, semconv.ACTION: decision.action}
    count(semconv.DECISIONS, 1, {**labels, semconv.ACTED: decision.acted})


def name_of(record: Record) -> str:
    """Return the policy that a record is about."""
    return (record.key or b"").decode(errors="replace")


def _read(record: Record, message_type: type[MessageT]) -> MessageT | None:
    """Return the message; None = it cannot be decoded."""
    kind = record.header(KIND) or message_type.kind
    reason = f"it is a {kind}, not a {message_type.kind}"
    if kind == message_type.kind:
        try:
            return message_type.parse(record.value or b"")
        except ValidationError as error:
            reason = str(error)
    _skip(record, reason)
    return None


def _skip(record: Record, reason: str) -> None:
    log.warning("%s cannot be read and is skipped: %s", record.position, reason)
    count(semconv.SKIPPED_BY_DECIDER, 1, {semconv.MESSAGING_DESTINATION: record.topic})


def _record_of(topic: Topic, message: Message, key: str, partition: int | None = None) -> ProducerRecord:
    headers = Envelope(kind=message.kind, content_type=JSON).headers()
    return ProducerRecord(topic.name, key.encode(), message.encode(), list(headers), partition)
