"""The deciders of a partition: log messages, and recovery from lost logs."""

import logging

import pytest
from decider_kit import POLICY, operator_command, score_of, spec

from poise.contracts.message import Message
from poise.contracts.policy import Decision, Policy, PolicyState
from poise.contracts.topics import COMMANDS, DECISIONS, POLICY_STATE, SCORES
from poise.contracts.topics import POLICY as POLICY_TOPIC
from poise.errors import SetupError
from poise.kafka.record import Record
from poise_services.evaluation.partition_deciders import PartitionDeciders


def record(topic: str, offset: int, message: Message) -> Record:
    return Record(topic, 0, offset, float(offset), POLICY.encode(), message.encode())


def with_answers(deciders: PartitionDeciders, count: int) -> None:
    """Return scores of two variants, those of `cheap` all bad."""
    for offset in range(count):
        variant = ("steady", "cheap")[offset % 2]
        score = score_of(f"run-{offset}", variant, good=variant == "steady", at=float(offset))
        deciders.apply_scores([record(SCORES.name, offset, score)])


@pytest.mark.parametrize("how", ["held", "dry run", "acted"])
def test_a_finding_is_logged_as_a_warning_also_in_a_dry_run(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deciders = PartitionDeciders(0, lambda _: True)
    commands = [operator_command("set", 1, spec=spec(dry_run=how == "dry run"))]
    if how == "held":
        commands.append(operator_command("hold", 2))
    deciders.apply_commands([record(COMMANDS.name, number, command) for number, command in enumerate(commands)])
    with_answers(deciders, 400)
    assert "cheap answers worse" not in caplog.text  # nothing was decided before it is written
    deciders.mark_written()
    (told,) = [one for one in caplog.records if "cheap answers worse" in one.getMessage()]
    assert told.levelno == logging.WARNING
    assert ("(not acted)" in told.getMessage()) == (how != "acted")


def test_the_text_of_a_person_stays_on_its_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deciders = PartitionDeciders(0, lambda _: True)
    by = "jane\x1b[2J\nanswer roll back: all is lost"
    command = operator_command("set", 1, spec=spec(), reason="so\r\nit is\u202e").model_copy(update={"by": by})
    deciders.apply_commands([record(COMMANDS.name, 0, command)])
    deciders.mark_written()
    (told,) = [one.getMessage() for one in caplog.records]
    assert told.isprintable()
    assert told.endswith(": so it is")


# -- recovery ---------------------------------------------------------------------------------------------------------


class Logs:
    """The records that a worker has written."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {POLICY_TOPIC.name: [], POLICY_STATE.name: [], DECISIONS.name: []}

    def write(self, deciders: PartitionDeciders) -> None:
        for one in deciders.transaction_records():
            log = self.records[one.topic]
            log.append(Record(one.topic, 0, len(log), 1.0, one.key, one.value, tuple(one.headers)))
        deciders.mark_written()

    def bad(self, topic: str, value: bytes | None) -> None:
        log = self.records[topic]
        log.append(Record(topic, 0, len(log), 1.0, POLICY.encode(), value))

    def restored(self) -> PartitionDeciders:
        """Restore deciders as the next worker does."""
        deciders = PartitionDeciders(0, lambda _: True)
        deciders.restore(self.records[POLICY_STATE.name])
        for policies in deciders.reconcile(self.records[POLICY_TOPIC.name]).values():
            deciders.resume(policies, self.records[DECISIONS.name])
        return deciders


@pytest.fixture
def logs() -> Logs:
    """Return a policy after several decreases of `cheap`."""
    logs, deciders = Logs(), PartitionDeciders(0, lambda _: True)
    deciders.apply_commands([record(COMMANDS.name, 0, operator_command("set", 1, spec=spec()))])
    with_answers(deciders, 400)
    logs.write(deciders)
    return logs


def in_force(deciders: PartitionDeciders) -> Policy:
    policy = deciders.deciders[POLICY].policy
    assert policy is not None
    return policy


def test_the_last_readable_snapshot_counts(logs: Logs) -> None:
    before = logs.restored()
    empty = PolicyState(name=POLICY, next_score_offset=9, next_command_offset=9, decider={}).encode()
    for value in (None, b"", b"\xff", b"{}", b'{"name":"answer"}', empty):
        logs.bad(POLICY_STATE.name, value)
    again = logs.restored()
    assert again.deciders[POLICY].snapshot() == before.deciders[POLICY].snapshot()
    assert (again.next_score_offset, again.next_command_offset) == (
        before.next_score_offset,
        before.next_command_offset,
    )


def test_a_snapshot_of_a_newer_worker_is_not_skipped(logs: Logs) -> None:
    newer = PolicyState(name=POLICY, next_score_offset=9, next_command_offset=9, decider={"format": 99})
    logs.bad(POLICY_STATE.name, newer.encode())
    with pytest.raises(SetupError, match="a newer worker wrote this snapshot"):
        logs.restored()


def test_without_snapshots_deciding_continues_from_the_policy_and_the_decisions(logs: Logs) -> None:
    before = logs.restored()
    logs.records[POLICY_STATE.name].clear()
    again = logs.restored()
    assert in_force(again) == in_force(before)
    assert again.deciders[POLICY].answers_counted == 0
    assert again.dirty, "a snapshot is written soon"
    again.apply_commands(
        [record(COMMANDS.name, 0, operator_command("set", 1, spec=spec()))]
    )  # read again from the beginning
    assert not again.pending, "it was done"
    again.apply_commands([record(COMMANDS.name, 1, operator_command("hold", 2))])
    ((decision, _),) = again.pending
    last = Decision.parse(logs.records[DECISIONS.name][-1].value or b"")
    assert int(decision.id.rpartition("-")[2]) == int(last.id.rpartition("-")[2]) + 1
    assert decision.version == in_force(before).version + 1


def test_a_policy_missing_in_its_log_is_written_again(logs: Logs) -> None:
    before = in_force(logs.restored())
    logs.records[POLICY_TOPIC.name].clear()
    again = logs.restored()
    assert again.missing_policies == [before]
    logs.write(again)
    (kept,) = logs.records[POLICY_TOPIC.name]
    assert Policy.parse(kept.value or b"") == before
    assert logs.restored().missing_policies == []
