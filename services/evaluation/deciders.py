"""The deciders of one partition: records of scores and commands in, what one transaction is to write out."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import ValidationError

from poise.contracts.envelope import Envelope
from poise.contracts.message import Message
from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicyState
from poise.contracts.record import Score
from poise.contracts.topics import DECISIONS, POLICY, POLICY_STATE, Topic
from poise.errors import SetupError
from poise.messaging import Record
from poise.messaging.transactions import Outgoing
from poise.policy.decider import Decider
from poise.telemetry import count, table

log = logging.getLogger(__name__)

JSON: Final = "application/json"
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class Origin:
    """Of which topics the offsets are, by Kafka's ids: one that was deleted and made again has offsets of its own."""

    scores: str | None = None
    commands: str | None = None

    def scores_of(self, state: PolicyState) -> int:
        """The next offset of `poise.scores`, as a snapshot has it; 0 where that is of another topic."""
        return state.scores if state.scores_id in {None, self.scores} else 0

    def commands_of(self, state: PolicyState) -> int:
        """The next offset of `poise.policy.commands`, likewise."""
        return state.commands if state.commands_id in {None, self.commands} else 0


class Deciders:
    """The deciders of the policies that have a partition, and how far it has been read.

    What cannot be read, or makes a decider fail, is counted and passed over: it is the same record for whoever owns the
    partition next, and must not stop the decisions behind it.

    Args:
        partition: The partition's number.
        belongs: Whether a policy of that name has this partition.
        origin: The topics that scores and commands are read from.
    """

    def __init__(self, partition: int, belongs: Callable[[str], bool], origin: Origin = Origin()) -> None:
        self.partition = partition
        self.deciders: dict[str, Decider] = {}
        self.scores: int | None = None
        """The next offset of its partition of `poise.scores`; None = nothing was ever set here."""
        self.commands: int | None = None
        self.made: list[tuple[Decision, Policy | None]] = []
        """Decisions that are not written yet, each with the policy that it put in force, if it did."""
        self._belongs = belongs
        self._origin = origin
        self._moved: set[str] = set()

    @property
    def moved(self) -> bool:
        """Whether something is remembered that is not written yet."""
        return bool(self._moved)

    def restore(self, records: Iterable[Record]) -> None:
        """Go on from the snapshots, of which the last of each policy counts.

        All that has moved is written in each transaction: so the furthest offset of any is how far all have come.

        Raises:
            SetupError: One cannot be read: to decide from nothing would be to forget what people set.
        """
        latest = {record.key: record for record in records}
        for record in latest.values():
            if record.value is None:
                continue
            try:
                state = PolicyState.parse(record.value)
                self.deciders[state.name] = Decider.restore(state.decider)
            except Exception as error:
                raise SetupError(f"{record.position}, the state of a policy, cannot be read: {error!r}") from error
            self.scores = max(self.scores or 0, self._origin.scores_of(state))
            self.commands = max(self.commands or 0, self._origin.commands_of(state))

    # -- taking in ------------------------------------------------------------------------------------------------

    def take_scores(self, records: Iterable[Record]) -> None:
        """Take in scores, in the order of their offsets."""
        for record in records:
            self.scores = record.offset + 1
            name = _name(record)
            decider = self.deciders.get(name)
            if decider is None or (score := _read(record, Score)) is None:
                continue
            try:
                self._note(decider, decider.score(score, record.offset))
            except Exception:
                log.exception("%s: a score of %s could not be weighed and is passed over", record.position, name)
                count(table.PASSED_OVER, 1, {table.MESSAGING_DESTINATION: record.topic})
            self._moved.add(name)

    def take_commands(self, records: Iterable[Record]) -> None:
        """Take in commands, in the order of their offsets."""
        for record in records:
            self.commands = record.offset + 1
            name = _name(record)
            if not self._belongs(name):
                log.warning("%s: policy %r has another partition: passed over", record.position, name)
                count(table.PASSED_OVER, 1, {table.MESSAGING_DESTINATION: record.topic})
                continue
            if (command := _read(record, PolicyCommand)) is None:
                continue
            decider = self.deciders.get(name) or Decider(name, self.scores or 0)
            try:
                self._note(decider, decider.command(command, record.timestamp))
            except Exception:
                log.exception("%s: what was asked of %s could not be done, and is passed over", record.position, name)
                count(table.PASSED_OVER, 1, {table.MESSAGING_DESTINATION: record.topic})
                continue
            self.deciders[name] = decider
            self._moved.add(name)

    def _note(self, decider: Decider, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self.made.append((decision, decider.policy if decision.acted else None))

    # -- writing down ---------------------------------------------------------------------------------------------

    def outgoing(self) -> Iterator[Outgoing]:
        """What is to be written, all of it or nothing: policies and decisions in their order, then the snapshots."""
        for decision, policy in self.made:
            if policy is not None:
                yield _outgoing(POLICY, policy, policy.name)
            yield _outgoing(DECISIONS, decision, decision.policy)
        for name in sorted(self._moved):
            state = PolicyState(
                name=name,
                scores=self.scores or 0,
                commands=self.commands or 0,
                scores_id=self._origin.scores,
                commands_id=self._origin.commands,
                decider=self.deciders[name].snapshot(),
            )
            yield _outgoing(POLICY_STATE, state, name, self.partition)

    def written(self) -> None:
        """Note that it was: only now was it decided. Who is shut out would else tell what never was."""
        for decision, _ in self.made:
            _tell(decision)
        self.made = []
        self._moved = set()


def _tell(decision: Decision) -> None:
    """Tell operators of a decision; that a variant is in trouble, also where nothing is done about it."""
    trouble = decision.command is None and decision.action != "promote"
    acted = "" if decision.acted else " (not acted)"
    level = logging.WARNING if trouble else logging.INFO
    log.log(level, "%s %s%s: %s", decision.policy, decision.action, acted, decision.reason)
    what = {table.POLICY: decision.policy, table.ACTION: decision.action}
    count(table.DECISIONS, 1, {**what, table.ACTED: decision.acted})


def _name(record: Record) -> str:
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
    log.warning("%s cannot be read and is passed over: %s", record.position, why)
    count(table.PASSED_OVER, 1, {table.MESSAGING_DESTINATION: record.topic})
    return None


def _outgoing(topic: Topic, message: Message, key: str, partition: int | None = None) -> Outgoing:
    headers = Envelope(kind=message.kind, content_type=JSON).headers()
    return Outgoing(topic.name, key.encode(), message.encode(), list(headers), partition)
