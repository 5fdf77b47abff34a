from dataclasses import replace
from typing import Any

import pytest
from counting_detectors import CountingDetectors
from decider_kit import POLICY, DeciderFeed, operator_command, score_of, spec

from poise.contracts.policy import Decision, PolicyCommand
from poise.contracts.record import Score
from poise.policy import replay as module
from poise.policy.decider import Decider
from poise.policy.replay import PolicyLogs, replay, replay_with

pytestmark = pytest.mark.usefixtures("_plain")


@pytest.fixture(autouse=True)
def _plain_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Detectors", CountingDetectors)


class LoggedDeciderFeed(DeciderFeed):
    """A decider with its logs."""

    def __init__(self, *args: Any) -> None:
        self.scores: list[tuple[int, Score]] = []
        self.commands: dict[str, tuple[float, PolicyCommand]] = {}
        super().__init__(*args)

    def ask(self, action: Any, **given: Any) -> Decision:
        decision = super().ask(action, **given)
        self.commands[decision.command or ""] = decision.at, operator_command(action, self.command_count, **given)
        return decision

    def see(self, *scores: Score) -> list[Decision]:
        self.scores += [(self.offset + number, score) for number, score in enumerate(scores)]
        return super().see(*scores)

    def logs(self, **changed: Any) -> PolicyLogs:
        """Return the logs as a replay reads them."""
        decisions = [Decision.parse(decision.encode()) for decision in self.decisions]
        return replace(PolicyLogs(POLICY, decisions, self.commands, self.scores, 0, self.offset), **changed)


@pytest.fixture
def lived() -> LoggedDeciderFeed:
    """Return the logs of a policy that was set, moved, held, given other limits, reverted and moved again."""
    lived = LoggedDeciderFeed()
    lived.ask("hold")  # nothing to hold: refused
    lived.answers("cheap", 9, good=False)  # before anything was set
    lived.ask("set", spec=spec())
    lived.answers("cheap", 5, good=False)
    lived.answers("steady", 3)
    lived.ask("hold", reason="let me see")
    lived.answers("cheap", 30)
    lived.ask("release")
    lived.answers("cheap", 12)
    lived.see(*(score for _, score in lived.scores[-12:]))  # duplicates, which do not count
    lived.ask("set", spec=spec(min_score=0.5))
    lived.answers("steady", 6, good=False)
    lived.ask("revert", version=1)
    lived.answers("cheap", 6, good=False)
    assert {decision.action for decision in lived.decisions} >= {"refuse", "set", "roll back", "hold", "promote"}
    return lived


def test_the_decisions_are_reproduced(lived: LoggedDeciderFeed) -> None:
    found = replay(lived.logs())
    assert (found.skipped, found.why, found.difference) == (0, None, None)
    assert list(found.recorded) == lived.decisions
    assert found.reproduced == len(lived.decisions)


def test_scores_that_are_not_decided_yet_are_no_difference(lived: LoggedDeciderFeed) -> None:
    before = lived.logs()
    lived.answers("steady", 6, good=False)
    assert len(lived.decisions) > len(before.decisions)
    assert replay(replace(before, scores=lived.scores)).difference is None
    missing = replay(lived.logs(decisions=before.decisions))
    assert missing.difference == f"{lived.decisions[-1].id} was replayed, but is not in the log: " + (
        lived.decisions[-1].reason
    )


def test_a_replay_begins_later_without_the_first_scores(lived: LoggedDeciderFeed) -> None:
    [again] = [d for d in lived.decisions if d.action == "set" and d.version > 1]
    first = again.next_score_offset
    kept = [(offset, score) for offset, score in lived.scores if offset >= first]
    found = replay(lived.logs(scores=kept, first=first))
    assert found.skipped == lived.decisions.index(again)
    assert found.why == f"not all scores and commands before {again.id} are retained"
    assert found.difference is None
    assert found.reproduced == len(found.recorded) == len(lived.decisions) - found.skipped


def test_nothing_can_be_replayed_without_scores(lived: LoggedDeciderFeed) -> None:
    found = replay(lived.logs(scores=[], first=lived.offset + 1))
    assert (found.skipped, found.reproduced, found.difference) == (len(lived.decisions), 0, None)
    assert found.why is not None
    assert replay(PolicyLogs(POLICY, [], {}, [], 0, 0)).why is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"after": {"steady": 0.5, "cheap": 0.5}}, "after is {'steady': 0.5, 'cheap': 0.5} in the log, and "),
        ({"reason": "because"}, "reason is because in the log, and "),
        ({"next_score_offset": 3}, "scores is 3 in the log, and "),
        ({"finding": None}, "finding is none in the log, and "),
        ({"id": "answer-99"}, "answer-99: id is answer-99 in the log, and "),
    ],
    ids=str,
)
def test_the_first_difference_is_reported(lived: LoggedDeciderFeed, change: dict[str, Any], said: str) -> None:
    number = next(n for n, decision in enumerate(lived.decisions) if decision.action == "roll back")
    logs = lived.logs()
    changed = [*logs.decisions]
    changed[number] = changed[number].model_copy(update=change)
    found = replay(replace(logs, decisions=changed))
    assert found.difference is not None
    assert found.difference.startswith(changed[number].id)
    assert said in found.difference
    assert found.reproduced == number


def test_a_decision_without_a_cause_is_a_difference(lived: LoggedDeciderFeed) -> None:
    logs = lived.logs()
    made_up = logs.decisions[-1].model_copy(update={"id": "answer-99"})
    found = replay(replace(logs, decisions=[*logs.decisions, made_up]))
    assert found.difference == f"answer-99 is in the log, but was not reproduced: {made_up.reason}"
    assert found.reproduced == len(lived.decisions)


def test_a_missing_score_causes_a_difference(lived: LoggedDeciderFeed) -> None:
    logs = lived.logs()
    at = next(decision for decision in lived.decisions if decision.action == "roll back").next_score_offset - 1
    without = [(offset, score) for offset, score in logs.scores if offset != at]
    assert replay(replace(logs, scores=without)).difference is not None


def test_numbers_may_differ_in_the_last_bit(lived: LoggedDeciderFeed) -> None:
    logs = lived.logs()
    changed = [decision.model_copy(update={"at": decision.at * (1 + 1e-15)}) for decision in logs.decisions]
    assert replay(replace(logs, decisions=changed)).difference is None


def test_a_replay_with_other_limits(lived: LoggedDeciderFeed) -> None:
    assert replay_with(lived.logs(), spec()) != lived.decisions
    dry = replay_with(lived.logs(), spec(dry_run=True))
    assert {decision.acted for decision in dry if decision.by == "loop"} == {False}
    assert replay_with(PolicyLogs(POLICY, [], {}, [], 0, 0), spec()) == []


def test_a_replay_from_the_middle_knows_the_counted_runs(lived: LoggedDeciderFeed) -> None:
    logs = lived.logs(first=10)
    begin = module._begin(logs)
    assert begin is not None
    decider: Decider = module._decider(logs, begin)
    lived_through = lived.decisions[begin].next_score_offset
    run = next(score.run_id for offset, score in lived.scores if offset == lived_through - 1)
    at, command = lived.commands[lived.decisions[begin].command or ""]
    decider.apply_command(command, at)
    before = decider.answers_counted
    decider.apply_score(score_of(run, "steady"), lived_through)
    assert decider.answers_counted == before
