"""The report: the totals of each arm, and the effect of the loop. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from poise.contracts.policy import Decision
from poise_labs.lab.experiment import ExperimentArm, LabRequest
from poise_labs.lab.scenario import Scenario

WINDOW: Final = 100
"""The number of requests over which the share of hurt ones is computed."""
ALARMS: Final = frozenset({"shift", "roll back", "hold"})
LATE: Final = 200
"""Scores after the last one of the degradation within which an alarm is still attributed to it."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The first alarm about the degraded variant."""

    answers: int
    """That variant's counted answers from the start of the degradation to the alarm."""
    seconds: float
    """From the first ask of the degradation to the decision's timestamp."""
    decision: str
    about: str


@dataclass(frozen=True, slots=True)
class ArmReport:
    """The totals of one arm."""

    loop: bool
    asks: int
    rate: float
    """The actual asks per second."""
    troubled: int
    """Requests during the degradation."""
    hurt: int
    wrong: int
    """Requests during the degradation whose drawn variant's answer was wrong for any reason."""
    misled: int
    """Those that got a model's wrong answer."""
    noticed: Detection | None
    restored: float | None
    """Seconds from the start of the degradation until the share of hurt requests stayed within the scenario's limit;
    0 = it was never above; None = it did not return."""
    false_alarms: int
    early: bool
    """Whether a weight was decreased before the degradation began: the loop's effect is unknown then."""
    moved: float
    """The largest difference of a weight from the one that was set, 0 to 1."""
    rungs: Mapping[str, int]
    """The answers by rung during the degradation, or of the whole run if there was none."""
    waited: float
    """The median waiting time in seconds."""
    waited_95: float
    """The 95th percentile of the waiting time."""
    auc: float | None
    """How well the score separates right from wrong answers (area under the ROC curve); None if one kind is missing."""


@dataclass(frozen=True, slots=True)
class ScenarioReport:
    """A scenario and the totals of its arms."""

    scenario: Scenario
    seed: int
    arms: tuple[ArmReport, ...]

    @property
    def fall(self) -> float | None:
        """The relative decrease of hurt requests with the loop on.

        None if an arm is missing, no request was hurt, or the loop had acted before the degradation began: the effect
        of a false alarm does not count.
        """
        by = {arm.loop: arm for arm in self.arms}
        if len(by) < 2 or not by[False].hurt or by[True].early:  # noqa: PLR2004 - on and off
            return None
        off, on = by[False], by[True]
        return 1 - (on.hurt / on.troubled) / (off.hurt / off.troubled)


def report_of(scenario: Scenario, arm: ExperimentArm) -> ArmReport:
    """Return the totals of an arm."""
    requests = arm.requests
    considered = [one for one in requests if one.during_degradation] or list(requests)
    took = sorted(one.seconds for one in considered)
    span = requests[-1].sent - requests[0].sent
    return ArmReport(
        loop=arm.loop,
        asks=len(requests),
        rate=(len(requests) - 1) / span if span > 0 else 0.0,
        troubled=sum(one.during_degradation for one in requests),
        hurt=sum(one.hurt for one in requests),
        wrong=sum(one.right is False for one in considered),
        misled=sum(one.misled for one in considered),
        noticed=detection_of(scenario, arm),
        restored=restored(requests, scenario.within),
        false_alarms=len(false_alarms(scenario, arm)),
        early=early(arm),
        moved=moved(arm),
        rungs=dict(Counter(one.rung for one in considered).most_common()),
        waited=median(took),
        waited_95=took[min(len(took) - 1, round(0.95 * len(took)))],
        auc=auc((one.quality, one.right) for one in requests if one.quality is not None and one.right is not None),
    )


def detection_of(scenario: Scenario, arm: ExperimentArm) -> Detection | None:
    """Return the first alarm about the degraded variant after the degradation began; None = there was none."""
    degradation = scenario.degradation
    if degradation is None or (first := _first_score(arm)) is None:
        return None
    for written, decision in arm.decisions:
        if is_alarm(decision) and decision.variant == degradation.variant and decision.next_score_offset > first:
            answers = [
                one
                for one in arm.requests
                if one.counted
                and one.during_degradation
                and one.drawn == degradation.variant
                and one.score is not None
                and one.score < decision.next_score_offset
            ]
            began = next(one.sent for one in arm.requests if one.during_degradation)
            about = decision.finding.about if decision.finding else ""
            return Detection(len(answers), written - began, decision.id, about)
    return None


def is_alarm(decision: Decision) -> bool:
    """Return whether a decision is the loop's alarm."""
    return decision.action in ALARMS and decision.finding is not None


def false_alarms(scenario: Scenario, arm: ExperimentArm) -> list[Decision]:
    """Return alarms without a degradation, or about another variant; consecutive steps count as one alarm."""
    found: list[Decision] = []
    last: str | None = None
    for _, decision in arm.decisions:
        if decision.action == "promote":
            last = None
        if not is_alarm(decision):
            continue
        if decision.variant != last and not _is_justified(scenario, arm, decision):
            found.append(decision)
        last = decision.variant
    return found


def _is_justified(scenario: Scenario, arm: ExperimentArm, decision: Decision) -> bool:
    first = _first_score(arm)
    if scenario.degradation is None or first is None or decision.variant != scenario.degradation.variant:
        return False
    last = max(one.score for one in arm.requests if one.during_degradation and one.score is not None)
    return first < decision.next_score_offset <= last + LATE


def early(arm: ExperimentArm) -> bool:
    """Return whether an alarm was acted on before any degraded request was scored; False without a degradation."""
    first = _first_score(arm)
    alarms = [decision for _, decision in arm.decisions if is_alarm(decision) and decision.acted]
    return first is not None and any(decision.next_score_offset <= first for decision in alarms)


def _first_score(arm: ExperimentArm) -> int | None:
    return min((one.score for one in arm.requests if one.during_degradation and one.score is not None), default=None)


def restored(requests: Sequence[LabRequest], within: float) -> float | None:
    """Return the seconds until the share of hurt requests stayed within a limit; see `ArmReport.restored`."""
    affected = [one for one in requests if one.during_degradation]
    if not affected:
        return None
    last: LabRequest | None = None
    hurt = 0
    for index, request in enumerate(affected):
        hurt += request.hurt - (affected[index - WINDOW].hurt if index >= WINDOW else False)
        if hurt > within * WINDOW:
            last = request
    if last is affected[-1]:
        return None
    return 0.0 if last is None else last.sent - affected[0].sent


def moved(arm: ExperimentArm) -> float:
    """Return the largest difference of a weight from the one that was set, 0 to 1."""
    far = 0.0
    for _, policy in arm.policies:
        total = sum(policy.spec.weights.values())
        for name, weight in policy.weights.items():
            far = max(far, abs(weight - policy.spec.weights.get(name, 0.0) / total))
    return far


def auc(scored: Iterable[tuple[float, bool]]) -> float | None:
    """Return the probability that a right answer scores above a wrong one, ties half (Mann and Whitney, 1947)."""
    ranked = sorted(scored)
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
    """Return whether each answer is right that ties with the one at an index, from there on."""
    end = place
    while end < len(ranked) and ranked[end][0] == ranked[place][0]:
        end += 1
    return [right for _, right in ranked[place:end]]
