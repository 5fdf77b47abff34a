"""The detectors of one policy: whether a variant has become worse, or has recovered."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Criterion, Finding, Limits
from poise.policy import snapshot_keys
from poise.policy.detection.aipw_contrast import AipwContrast, payoff_above, payoff_below
from poise.policy.detection.baseline import Baseline
from poise.policy.detection.common_shift import CommonShift, common_shift, drift_of_others
from poise.policy.detection.counts import Counts, Measure, Totals
from poise.policy.detection.e_detector import BET_FRACTIONS, EDetector
from poise.policy.detection.historical_bound import WINDOW, HistoricalBound
from poise.policy.detection.observation import Observation
from poise.policy.detection.recovery_e_process import RECOVERY_THRESHOLD, RecoveryEProcess, RecoveryWatch

METHODS: Final[Mapping[Criterion, str]] = {
    "others": "e-detector of AIPW contrasts",
    "past": "e-detector above an empirical Bernstein bound",
    "range": "e-detector of a mean",
    "latency": "e-detector of a share",
    "cost": "e-detector of a share",
}
RECOVERY_METHOD: Final = "e-process of non-inferiority"
MEASURE_OF: Final[Mapping[Criterion, Measure]] = {
    "others": "loss",
    "past": "loss",
    "range": "loss",
    "latency": "over_latency",
    "cost": "over_cost",
}
BOUND_FAILURE_SHARE: Final = 0.02
"""The part of the false alarms that failing historical bounds may cause.

The threshold is raised by 2.5 times it: if n answers may pass between false alarms, the e-detectors raise 1/(1.05·n) of
them an answer, which leaves 0.047/n, over twice this part, to failing bounds. All together stay at 1/n."""
SNAPSHOT_FORMAT: Final = 2
"""The format of snapshots; a snapshot of another format cannot be restored."""
ALLOWED_ABOVE_CEILING: Final = 0.05
"""The share of a variant's answers that may be above a ceiling."""


class Detectors:
    """All detectors of a policy. No clock, no I/O, no randomness: the same answers give the same findings.

    Each is an e-detector (Shin, Ramdas, Rinaldo, 2022), whose expectation is at most the number of answers while no
    variant is worse; the same holds for their weighted average. An alarm is raised for a variant when its part of that
    average reaches `mean_answers_between_false_alarms` (the average run length) times 1.05, see `BOUND_FAILURE_SHARE`,
    and resets that part. So at least that
    number of answers passes between false alarms on average, over all variants, detectors and restarts.

    Args:
        variants: The variants that are drawn.
        limits: The average run length, and the bounds to watch.
    """

    def __init__(self, variants: Sequence[str], limits: Limits) -> None:
        self._variants = tuple(variants)
        self._limits = limits
        self._criteria = criteria(len(self._variants), limits)
        self._threshold = limits.mean_answers_between_false_alarms * (1.0 + 2.5 * BOUND_FAILURE_SHARE)
        self._mixture_weight = 1.0 / (len(self._variants) * len(self._criteria) * len(BET_FRACTIONS))
        self._log_inverse_alpha = -math.log(
            min(BOUND_FAILURE_SHARE, BOUND_FAILURE_SHARE * WINDOW / limits.mean_answers_between_false_alarms)
        )
        self._number = 0
        self._finished_at = 0.0
        self._e_detectors = {
            variant: {criterion: EDetector() for criterion in self._criteria} for variant in self._variants
        }
        self._counts = Counts(self._variants)
        self._bounds = {variant: HistoricalBound(self._mark()) for variant in self._variants}
        self._loss_before_alarm: dict[str, float] = {}
        """The mean loss of a variant before its last alarm, if known."""
        self._scored = set(self._variants)
        """The variants whose last answer was scored; only these are compared."""
        self._watched: dict[str, RecoveryWatch] = {}
        self._baseline = Baseline()

    def update(self, answer: Observation) -> Finding | None:
        """Add an answer and return the alarm that it raises, if any.

        The variant of the finding is worse; its detectors restart. A variant that is watched for
        recovery raises no alarm, unless its share is being restored.
        """
        if answer.variant not in self._e_detectors:
            return None
        if answer.loss is None:
            self._scored.discard(answer.variant)
            if answer.over_latency is None and answer.over_cost is None:
                return None
        self._number += 1
        self._finished_at = answer.finished_at
        if answer.loss is not None:
            self._compare(answer, answer.loss)
            self._range(answer, answer.loss)
            self._past(answer, answer.loss)
            self._counts.add(answer.variant, "loss", answer.loss)
        self._ceiling(answer, "latency", answer.over_latency)
        self._ceiling(answer, "cost", answer.over_cost)
        return self._alarm()

    def watch_recovery(self, variant: str, criterion: Criterion, *, restoring: bool = False) -> None:
        """Watch a variant for recovery.

        Args:
            variant: The variant.
            criterion: The criterion of its alarm.
            restoring: Its share is being restored, so that it also raises alarms; else it has just raised one.
        """
        self._restart(variant)
        count = 2 if criterion == "range" and len(self._variants) > 1 else 1
        before = self._counts.mark(MEASURE_OF[criterion])
        proofs = [RecoveryEProcess(self._finished_at, before) for _ in range(count)]
        self._watched[variant] = RecoveryWatch(
            criterion, self._loss_before_alarm.get(variant), proofs, restoring=restoring
        )

    def recovered(self, variant: str) -> Finding | None:
        """Return the finding that a watched variant has recovered; None = it has not been shown."""
        watched = self._watched.get(variant)
        if watched is None or watched.least.value < RECOVERY_THRESHOLD:
            return None
        shown = watched.least
        return Finding(
            variant=variant,
            about=watched.criterion,
            method=RECOVERY_METHOD,
            statistic=round(shown.value, 1),
            threshold=RECOVERY_THRESHOLD,
            samples=self._counts.samples(MEASURE_OF[watched.criterion], shown.before),
            since=shown.began_at,
        )

    def stop_watching(self, variant: str) -> None:
        """Stop watching a variant for recovery: it raises alarms again."""
        if self._watched.pop(variant, None) is not None:
            self._restart(variant)

    @property
    def threshold(self) -> float:
        """The evidence against a variant that raises an alarm."""
        return self._threshold

    def evidence(self) -> dict[str, float]:
        """Return by variant the evidence that it is worse."""
        return {
            variant: sum(detector.total for detector in detectors.values()) * self._mixture_weight
            for variant, detectors in self._e_detectors.items()
        }

    def recovery_evidence(self, variant: str) -> float | None:
        """Return the evidence of recovery, shown at `RECOVERY_THRESHOLD`; None = the variant is not watched."""
        watched = self._watched.get(variant)
        return None if watched is None else watched.least.value

    def _restart(self, variant: str) -> None:
        self._e_detectors[variant] = {criterion: EDetector(self._number) for criterion in self._criteria}
        self._bounds[variant] = HistoricalBound(self._mark())

    def _compare(self, answer: Observation, loss: float) -> None:
        """Compare each variant with all others together."""
        started = answer.finished_at if answer.started_at is None else answer.started_at
        shares = self._draw_shares(answer)
        if shares is not None and answer.variant in self._scored:
            mean = self._baseline.mean_at(started)
            fit = [variant for variant in self._variants if variant in self._scored and variant not in self._watched]
            for variant in self._variants:
                if variant not in self._scored:
                    continue
                others = [other for other in fit if other != variant]
                watched = self._watched.get(variant)
                if watched is not None and not others:
                    others = [other for other in self._variants if other in self._scored and other != variant]
                contrast = AipwContrast.of(variant, others, shares, drawn=answer.variant, loss=loss, mean=mean)
                if contrast is None:
                    continue
                if watched is None or watched.restoring:
                    self._update(variant, "others", contrast.payoff_if_worse, answer)
                if watched is not None and MEASURE_OF[watched.criterion] == "loss":
                    z = contrast.payoff_if_non_inferior(self._limits.margin)
                    self._update_recovery(watched, watched.against_others, z, answer, own=variant == answer.variant)
        self._scored.add(answer.variant)
        self._baseline.add(started, loss)

    def _range(self, answer: Observation, loss: float) -> None:
        if self._limits.min_score is None:
            return
        bound = 1.0 - self._limits.min_score
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._update(answer.variant, "range", payoff_above(loss, bound), answer)
        if watched is not None and watched.criterion == "range":
            self._update_recovery(watched, watched.against_bound, payoff_below(loss, bound), answer)

    def _past(self, answer: Observation, loss: float) -> None:
        watched = self._watched.get(answer.variant)
        if watched is not None:
            if watched.criterion == "past" and watched.past is not None and len(self._variants) == 1:
                z = payoff_below(loss, min(1.0, watched.past + self._limits.margin))
                self._update_recovery(watched, watched.against_bound, z, answer)
            if not watched.restoring:
                return
        history = self._bounds[answer.variant]
        weight = history.count_question(answer.question)
        if history.warm and history.upper < 1.0:
            bound = history.upper + drift_of_others(self._counts, self._others(answer.variant), history.initial_totals)
            self._update(answer.variant, "past", weight * payoff_above(loss, min(1.0, bound)), answer)
        history.add(loss, weight, self._log_inverse_alpha, self._mark)

    def _ceiling(self, answer: Observation, criterion: Criterion, over: bool | None) -> None:
        if over is None or criterion not in self._criteria:
            return
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._update(answer.variant, criterion, payoff_above(over, ALLOWED_ABOVE_CEILING), answer)
        if watched is not None and watched.criterion == criterion:
            self._update_recovery(
                watched, watched.against_bound, payoff_below(over, ALLOWED_ABOVE_CEILING + self._limits.margin), answer
            )
        self._counts.add(answer.variant, MEASURE_OF[criterion], over)

    def _update(self, variant: str, criterion: Criterion, z: float, answer: Observation) -> None:
        detector = self._e_detectors[variant][criterion]
        if detector.update(z, self._number):
            detector.mark_change(answer.finished_at, self._counts.mark(MEASURE_OF[criterion]))
        if z > 0.0 and variant == answer.variant:
            detector.remember_run(z, answer.run)

    def _update_recovery(
        self, watched: RecoveryWatch, proof: RecoveryEProcess, z: float, answer: Observation, *, own: bool = True
    ) -> None:
        if proof.update(z, own=own):
            proof.mark_change(answer.finished_at, self._counts.mark(MEASURE_OF[watched.criterion]))

    def _mark(self) -> Totals:
        return self._counts.mark("loss")

    def _draw_shares(self, answer: Observation) -> Mapping[str, float] | None:
        """Return the shares of all variants in the draw; None = not known."""
        if answer.shares is not None:
            return answer.shares
        if len(self._variants) != 2:  # noqa: PLR2004  # of two, one's probability tells the other's
            return None
        return dict.fromkeys(self._variants, 1.0 - answer.probability) | {answer.variant: answer.probability}

    def _alarm(self) -> Finding | None:
        most, blamed = 0.0, ""
        for variant, detectors in self._e_detectors.items():
            total = 0.0
            for detector in detectors.values():
                total += detector.total
            if total > most:
                most, blamed = total, variant
        statistic = most * self._mixture_weight
        if statistic < self._threshold:
            return None
        detectors = self._e_detectors[blamed]
        criterion = max(detectors, key=lambda one: detectors[one].total)
        if criterion == "past" and self._is_common_shift(blamed):
            return None
        finding = Finding(
            variant=blamed,
            about=criterion,
            method=METHODS[criterion],
            statistic=round(statistic, 1),
            threshold=self._threshold,
            samples=self._counts.samples(MEASURE_OF[criterion], detectors[criterion].before),
            runs=detectors[criterion].top_runs(),
            since=detectors[criterion].change_at,
        )
        if self._bounds[blamed].warm:
            self._loss_before_alarm[blamed] = self._bounds[blamed].mean
        self._restart(blamed)
        return finding

    def _is_common_shift(self, variant: str) -> bool:
        """Return whether the shift of a variant is, or may be, one of all variants.

        This suppresses alarms and adds none, so it cannot increase the rate of false ones.
        """
        detector = self._e_detectors[variant]["past"]
        verdict = common_shift(
            self._counts, variant, self._others(variant), self._bounds[variant].initial_totals, detector.before
        )
        if verdict is CommonShift.PERHAPS:
            detector.cap(self._threshold / self._mixture_weight)
        if verdict is CommonShift.YES:
            for one in self._variants:
                self._e_detectors[one]["past"] = EDetector(self._number)
                self._bounds[one] = HistoricalBound(self._mark())
        return verdict is not CommonShift.NO

    def _others(self, variant: str) -> list[str]:
        """Return the variants that a variant can be compared with: the others that are not watched for recovery."""
        return [other for other in self._variants if other != variant and other not in self._watched]

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "format": SNAPSHOT_FORMAT,
            "variants": list(self._variants),
            snapshot_keys.ANSWERS: self._number,
            "at": self._finished_at,
            snapshot_keys.E_DETECTORS: {
                variant: {criterion: detector.snapshot() for criterion, detector in detectors.items()}
                for variant, detectors in self._e_detectors.items()
            },
            snapshot_keys.HISTORICAL_BOUNDS: {variant: bound.snapshot() for variant, bound in self._bounds.items()},
            snapshot_keys.LOSS_BEFORE_ALARM: dict(self._loss_before_alarm),
            snapshot_keys.SCORED_VARIANTS: [variant for variant in self._variants if variant in self._scored],
            "watched": {variant: watched.snapshot() for variant, watched in self._watched.items()},
            "baseline": self._baseline.snapshot(),
            snapshot_keys.COUNTS: self._counts.snapshot(),
        }

    @classmethod
    def restore(cls, variants: Sequence[str], limits: Limits, snapshot: Mapping[str, Any]) -> Self:
        """Continue from a snapshot, bit for bit; criteria that other limits add start now.

        Raises:
            ValueError: The snapshot is of other variants.
        """
        if list(variants) != list(snapshot["variants"]):
            raise ValueError(
                f"a snapshot of {snapshot['variants']} cannot be restored for {list(variants)}: start new detectors"
            )
        detectors = cls(variants, limits)
        number = detectors._number = snapshot[snapshot_keys.ANSWERS]
        detectors._finished_at = snapshot["at"]
        for variant, saved in snapshot[snapshot_keys.E_DETECTORS].items():
            detectors._e_detectors[variant] = {
                criterion: EDetector.restore(saved[criterion]) if criterion in saved else EDetector(number)
                for criterion in detectors._criteria
            }
        detectors._bounds = {
            variant: HistoricalBound.restore(values)
            for variant, values in snapshot[snapshot_keys.HISTORICAL_BOUNDS].items()
        }
        detectors._loss_before_alarm = dict(snapshot[snapshot_keys.LOSS_BEFORE_ALARM])
        detectors._scored = set(snapshot[snapshot_keys.SCORED_VARIANTS])
        detectors._watched = {variant: RecoveryWatch.restore(values) for variant, values in snapshot["watched"].items()}
        detectors._baseline = Baseline.restore(snapshot["baseline"])
        detectors._counts = Counts.restore(variants, snapshot[snapshot_keys.COUNTS])
        return detectors


def criteria(variants: int, limits: Limits) -> tuple[Criterion, ...]:
    """Return the criteria that variants are tested for."""
    enabled: dict[Criterion, bool] = {
        "others": variants > 1,
        "past": True,
        "range": limits.min_score is not None,
        "latency": limits.max_latency is not None,
        "cost": limits.max_cost is not None,
    }
    return tuple(criterion for criterion, on in enabled.items() if on)


def same_detection(one: Limits, other: Limits) -> bool:
    """Return whether limits differ at most in how far and how often a share moves."""
    return one.model_copy(update={"step": other.step, "cooldown_answers": other.cooldown_answers}) == other
