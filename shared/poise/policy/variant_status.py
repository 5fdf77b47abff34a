"""The status of each variant of a policy: share, recent scores and the last decision about it. No clock, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from poise.contracts.policy import Decision, Policy
from poise.contracts.record import Score
from poise.policy.weights import normalize
from poise.scoring.summary import Estimate, estimate

MIN_CHANGE: Final = 0.0005
"""Shares that differ by less are equal."""


State = Literal["", "incident", "recovery"]
"""`incident`: it was found to be worse; `recovery`: its share is being restored."""


@dataclass(frozen=True, slots=True)
class VariantStatus:
    """The status of one variant."""

    variant: str
    share: float
    """Its share now."""
    target_share: float
    """The share that a person set."""
    answers: int
    """The number of its recent answers that have the score that steers."""
    score: Estimate | None
    """The score that steers, over these answers."""
    ms: Estimate | None
    cost: Estimate | None
    state: State
    why: str
    """The decision's reason, if it has an incident."""


def variant_statuses(policy: Policy, decisions: Sequence[Decision], scores: Sequence[Score]) -> list[VariantStatus]:
    """Return the status of each variant of a policy, in the order in which they were set."""
    counted = {score.run_id: score for score in scores if score.feedback is None}  # a run may have been scored twice
    targets, moves = normalize(policy.spec.weights, policy.spec.limits), _last_moves(decisions)
    found = []
    for variant, share in policy.weights.items():
        own = [score.values for score in counted.values() if score.variant == variant]

        def of(name: str, own: Sequence[Mapping[str, float]] = own) -> Estimate | None:
            values = [values[name] for values in own if name in values]
            return estimate(values) if values else None

        steers = of(policy.spec.limits.score)
        answers, target, move = steers.count if steers else 0, targets.get(variant, 0.0), moves.get(variant)
        state: State = ""
        why = ""
        if move is not None and move.action != "promote":
            state, why = "incident", move.reason
        elif move is not None and share < target - MIN_CHANGE:
            state = "recovery"
        found.append(VariantStatus(variant, share, target, answers, steers, of("raw_ms"), of("raw_cost"), state, why))
    return found


def _last_moves(decisions: Sequence[Decision]) -> dict[str, Decision]:
    """Return the loop's last decision about each variant, since a person last set the weights."""
    found: dict[str, Decision] = {}
    for decision in decisions:
        if decision.action in {"set", "revert"} and decision.before != decision.after:
            found.clear()
        elif decision.variant is not None and decision.finding is not None:
            found[decision.variant] = decision
    return found
