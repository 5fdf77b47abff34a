"""The report: what an arm's requests and decisions come to, and what the loop changed. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from poise.contracts.policy import Decision
from poise_labs.lab.experiment import ExperimentArm, LabRequest
from poise_labs.lab.scenario import Scenario

WINDOW: Final = 100
"""Requests of which the share that was hurt is taken."""
ALARMS: Final = frozenset({"shift", "roll back", "hold"})
LATE: Final = 200
"""Scores after the last troubled one: an alarm within them is still about the trouble."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The first alarm about the variant in trouble."""

    answers: int
    """Of that variant, from the trouble's beginning, that had been counted by then."""
    seconds: float
    """From the first ask in trouble to the decision's being written."""
    decision: str
    about: str


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What one arm comes to."""

    loop: bool
    asks: int
    rate: float
    """Asks a second, as they were made."""
    troubled: int
    """Requests while the trouble lasted."""
    hurt: int
    wrong: int
    """Requests in trouble whose drawn variant's words were wrong for whatever reason."""
    misled: int
    """Those whose reader got a model's wrong words."""
    noticed: Detection | None
    restored: float | None
    """Seconds from the trouble's beginning until the share of hurt requests was within the scenario's limit, and stayed
    there; 0 = it was never above; None = it did not come back."""
    false_alarms: int
    early: bool
    """Weights had moved away from a variant before the trouble began: what the loop did in it cannot be told then."""
    moved: float
    """The largest distance of a weight from the one that was set, 0 to 1."""
    rungs: Mapping[str, int]
    """What the readers got while the trouble lasted, or all the time where there was none."""
    waited: float
    """The median of the seconds that they waited."""
    waited_95: float
    """The 95th percentile of these."""
    auc: float | None
    """How well the score that steers tells right words from wrong ones (area under the ROC curve); None where there
    were not both."""


@dataclass(frozen=True, slots=True)
class ScenarioReport:
    """A scenario, and what its arms come to."""

    scenario: Scenario
    seed: int
    arms: tuple[ArmReport, ...]

    @property
    def fall(self) -> float | None:
        """By which share fewer requests were hurt with the loop on.

        None where there are not both arms, or none was hurt, or the loop had acted before the trouble began: a false
        alarm that happens to help is no merit.
        """
        by = {arm.loop: arm for arm in self.arms}
        if len(by) < 2 or not by[False].hurt or by[True].early:  # noqa: PLR2004 - on and off
            return None
        off, on = by[False], by[True]
        return 1 - (on.hurt / on.troubled) / (off.hurt / off.troubled)


def report_of(scenario: Scenario, arm: ExperimentArm) -> ArmReport:
    """What an arm comes to."""
    requests = arm.requests
    told = [one for one in requests if one.troubled] or list(requests)
    took = sorted(one.seconds for one in told)
    span = requests[-1].sent - requests[0].sent
    return ArmReport(
        loop=arm.loop,
        asks=len(requests),
        rate=(len(requests) - 1) / span if span > 0 else 0.0,
        troubled=sum(one.troubled for one in requests),
        hurt=sum(one.hurt for one in requests),
        wrong=sum(one.right is False for one in told),
        misled=sum(one.misled for one in told),
        noticed=detection_of(scenario, arm),
        restored=restored(requests, scenario.within),
        false_alarms=len(false_alarms(scenario, arm)),
        early=early(arm),
        moved=moved(arm),
        rungs=dict(Counter(one.rung for one in told).most_common()),
        waited=median(took),
        waited_95=took[min(len(took) - 1, round(0.95 * len(took)))],
        auc=auc((one.quality, one.right) for one in requests if one.quality is not None and one.right is not None),
    )


def detection_of(scenario: Scenario, arm: ExperimentArm) -> Detection | None:
    """The first alarm about the variant in trouble, from when it was; None = there was none."""
    trouble = scenario.trouble
    if trouble is None or (first := _first_score(arm)) is None:
        return None
    for written, decision in arm.decisions:
        if is_alarm(decision) and decision.variant == trouble.variant and decision.scores > first:
            answers = [
                one
                for one in arm.requests
                if one.counted
                and one.troubled
                and one.drawn == trouble.variant
                and one.score is not None
                and one.score < decision.scores
            ]
            began = next(one.sent for one in arm.requests if one.troubled)
            about = decision.finding.about if decision.finding else ""
            return Detection(len(answers), written - began, decision.id, about)
    return None


def is_alarm(decision: Decision) -> bool:
    """Whether the loop found that something is wrong."""
    return decision.action in ALARMS and decision.finding is not None


def false_alarms(scenario: Scenario, arm: ExperimentArm) -> list[Decision]:
    """Alarms without trouble, or about a variant that is in none; the steps of one move are one alarm."""
    found: list[Decision] = []
    last: str | None = None
    for _, decision in arm.decisions:
        if decision.action == "promote":
            last = None
        if not is_alarm(decision):
            continue
        if decision.variant != last and not _about_the_trouble(scenario, arm, decision):
            found.append(decision)
        last = decision.variant
    return found


def _about_the_trouble(scenario: Scenario, arm: ExperimentArm, decision: Decision) -> bool:
    first = _first_score(arm)
    if scenario.trouble is None or first is None or decision.variant != scenario.trouble.variant:
        return False
    last = max(one.score for one in arm.requests if one.troubled and one.score is not None)
    return first < decision.scores <= last + LATE


def early(arm: ExperimentArm) -> bool:
    """Whether an alarm was acted on before any request in trouble was scored; False where there is no trouble."""
    first = _first_score(arm)
    alarms = [decision for _, decision in arm.decisions if is_alarm(decision) and decision.acted]
    return first is not None and any(decision.scores <= first for decision in alarms)


def _first_score(arm: ExperimentArm) -> int | None:
    return min((one.score for one in arm.requests if one.troubled and one.score is not None), default=None)


def restored(requests: Sequence[LabRequest], within: float) -> float | None:
    """Seconds from the trouble's beginning until the share of hurt requests stayed within a limit; see `ArmReport`."""
    troubled = [one for one in requests if one.troubled]
    if not troubled:
        return None
    last: LabRequest | None = None
    hurt = 0
    for place, one in enumerate(troubled):
        hurt += one.hurt - (troubled[place - WINDOW].hurt if place >= WINDOW else False)
        if hurt > within * WINDOW:
            last = one
    if last is troubled[-1]:
        return None
    return 0.0 if last is None else last.sent - troubled[0].sent


def moved(arm: ExperimentArm) -> float:
    """How far a weight went from what was set, 0 to 1."""
    far = 0.0
    for _, policy in arm.policies:
        total = sum(policy.spec.weights.values())
        for name, weight in policy.weights.items():
            far = max(far, abs(weight - policy.spec.weights.get(name, 0.0) / total))
    return far


def auc(told: Iterable[tuple[float, bool]]) -> float | None:
    """The chance that a right answer scores more than a wrong one, ties half (Mann and Whitney, 1947)."""
    ranked = sorted(told)
    positives = sum(right for _, right in ranked)
    negatives = len(ranked) - positives
    if not positives or not negatives:
        return None
    below, place, wins = 0, 0, 0.0
    while place < len(ranked):
        tied = _tied(ranked, place)
        ups = sum(tied)
        downs = len(tied) - ups
        wins += ups * (below + downs / 2)
        below += downs
        place += len(tied)
    return wins / (positives * negatives)


def _tied(ranked: Sequence[tuple[float, bool]], place: int) -> list[bool]:
    """The answers that score as much as the one at a place, from there on."""
    end = place
    while end < len(ranked) and ranked[end][0] == ranked[place][0]:
        end += 1
    return [right for _, right in ranked[place:end]]
