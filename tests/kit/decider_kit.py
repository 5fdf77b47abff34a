"""Scores, commands and a decider with its input, for tests of the decider."""

from collections.abc import Iterable
from typing import Any

from poise.contracts.policy import Decision, Limits, PolicyCommand, PolicySpec
from poise.contracts.record import Score
from poise.policy.decider import Decider

POLICY = "answer"


def spec(weights: dict[str, float] | None = None, *, dry_run: bool = False, **limits: Any) -> PolicySpec:
    """Return a spec; by default of two variants of the same weight."""
    weights = weights or {"steady": 1, "cheap": 1}
    return PolicySpec(name=POLICY, weights=weights, limits=Limits(**{"cooldown_answers": 1} | limits), dry_run=dry_run)


def operator_command(action: Any, number: int, **given: Any) -> PolicyCommand:
    """Return a command of a person."""
    return PolicyCommand(id=f"c{number}", action=action, by="jane", **given)


def score_of(run: str, variant: str, *, good: bool = True, **given: Any) -> Score:
    """Return a score of one answer."""
    values = {"quality": 1.0 if good else 0.0, "raw_fault": 0.0}
    usual: dict[str, Any] = {
        "workflow": "answer",
        "tenant": "acme",
        "policy": POLICY,
        "policy_version": 1,
        "probability": 0.5,
        "rung": "primary",
        "at": 1.0,
        "values": values,
    }
    # Not validated: a decider must survive records that the contract rejects.
    return Score.model_construct(run_id=run, variant=variant, **usual | given)


class DeciderFeed:
    """A decider with its input and its decisions."""

    def __init__(self, set_: PolicySpec | None = None) -> None:
        self.decider = Decider(POLICY)
        self.decisions: list[Decision] = []
        self.offset = 0
        self.command_count = 0
        if set_ is not None:
            self.ask("set", spec=set_)

    def ask(self, action: Any, **given: Any) -> Decision:
        """Apply a command and return its decision."""
        self.command_count += 1
        (decision,) = self.decider.apply_command(
            operator_command(action, self.command_count, **given), at=float(self.offset)
        )
        self.decisions.append(decision)
        return decision

    def see(self, *scores: Score) -> list[Decision]:
        """Apply scores and return the decisions."""
        made: list[Decision] = []
        for score in scores:
            made += self.decider.apply_score(score, self.offset)
            self.offset += 1
        self.decisions += made
        return made

    def answers(self, variant: str, count: int, *, good: bool = True) -> list[Decision]:
        """Apply the scores of this number of new answers of a variant; return the decisions."""
        first = self.offset
        return self.see(*(score_of(f"run-{n}", variant, good=good, at=float(n)) for n in range(first, first + count)))

    @property
    def shares(self) -> dict[str, float]:
        """Return the weights in force, rounded."""
        assert self.decider.policy is not None
        return {name: round(share, 9) for name, share in self.decider.policy.weights.items()}

    @property
    def version(self) -> int:
        assert self.decider.policy is not None
        return self.decider.policy.version


def actions(decisions: Iterable[Decision]) -> list[tuple[str, str | None, bool]]:
    """Return action, variant and `acted` of each decision."""
    return [(decision.action, decision.variant, decision.acted) for decision in decisions]


def chained(decisions: Iterable[Decision]) -> bool:
    """Return whether each decision follows from the one before: numbers, versions, weights."""
    version = 0
    weights: dict[str, float] = {}
    for number, decision in enumerate(decisions, start=1):
        version += decision.acted
        held = decision.acted and decision.before == decision.after
        follows = decision.before == weights and decision.version == version and decision.id == f"{POLICY}-{number}"
        if not follows or (held and decision.action not in {"set", "hold", "release", "revert"}):
            return False
        weights = decision.after if decision.acted else weights
    return True
