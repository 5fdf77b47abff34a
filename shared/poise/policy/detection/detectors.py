"""The detectors of one policy: whether a variant has become worse, or has recovered."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from poise.contracts.policy import Criterion, Finding, Limits
from poise.policy.detection.aipw_contrast import AipwContrast, z_above, z_below
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
"""The share of false alarms that a failing historical bound may cause; the threshold is raised by 2.5 times it."""
SNAPSHOT_FORMAT: Final = 2
"""The format of snapshots; a snapshot of another format cannot be restored."""
ALLOWED_ABOVE_CEILING: Final = 0.05
"""The share of a variant's answers that may be above a ceiling."""


class Detectors:
    """All detectors of a policy. No clock, no IO, no randomness: the same answers give the same findings.

    Each is an e-detector (Shin, Ramdas, Rinaldo, 2022), whose expectation is at most the number of answers while no
    variant is worse; the same holds for their weighted average. An alarm is raised for a variant when its part of that
    average reaches `mean_answers_between_false_alarms`, the average run length, and resets that part. So at least that
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
        self._share = 1.0 / (len(self._variants) * len(self._criteria) * len(BET_FRACTIONS))
        self._log_inverse_alpha = -math.log(
            min(BOUND_FAILURE_SHARE, BOUND_FAILURE_SHARE * WINDOW / limits.mean_answers_between_false_alarms)
        )
        self._number = 0
        self._at = 0.0
        self._e_detectors = {variant: {about: EDetector() for about in self._criteria} for variant in self._variants}
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
        self._at = answer.at
        if answer.loss is not None:
            self._compare(answer, answer.loss)
            self._range(answer, answer.loss)
            self._past(answer, answer.loss)
            self._counts.add(answer.variant, "loss", answer.loss)
        self._ceiling(answer, "latency", answer.over_latency)
        self._ceiling(answer, "cost", answer.over_cost)
        return self._alarm()

    def watch_recovery(self, variant: str, about: Criterion, *, restoring: bool = False) -> None:
        """Watch a variant for recovery.

        Args:
            variant: The variant.
            about: The criterion of its alarm.
            restoring: Its share is being restored, so that it also raises alarms; else it has just raised one.
        """
        self._restart(variant)
        proofs = 2 if about == "range" and len(self._variants) > 1 else 1
        before = self._counts.mark(MEASURE_OF[about])
        made = [RecoveryEProcess(self._at, before) for _ in range(proofs)]
        self._watched[variant] = RecoveryWatch(about, self._loss_before_alarm.get(variant), made, restoring=restoring)

    def recovered(self, variant: str) -> Finding | None:
        """Return the finding that a watched variant has recovered; None = it has not been shown."""
        watched = self._watched.get(variant)
        if watched is None or watched.least.value < RECOVERY_THRESHOLD:
            return None
        shown = watched.least
        return Finding(
            variant=variant,
            about=watched.about,
            method=RECOVERY_METHOD,
            statistic=round(shown.value, 1),
            threshold=RECOVERY_THRESHOLD,
            samples=self._counts.samples(MEASURE_OF[watched.about], shown.before),
            since=shown.at,
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
            variant: sum(one.total for one in bets.values()) * self._share
            for variant, bets in self._e_detectors.items()
        }

    def recovery_evidence(self, variant: str) -> float | None:
        """Return the evidence of recovery, shown at `RECOVERY_THRESHOLD`; None = the variant is not watched."""
        watched = self._watched.get(variant)
        return None if watched is None else watched.least.value

    def _restart(self, variant: str) -> None:
        self._e_detectors[variant] = {about: EDetector(self._number) for about in self._criteria}
        self._bounds[variant] = HistoricalBound(self._mark())

    def _compare(self, answer: Observation, bad: float) -> None:
        """Compare each variant with all others together."""
        started = answer.at if answer.started is None else answer.started
        weights = self._weights(answer)
        if weights is not None and answer.variant in self._scored:
            mean = self._baseline.at(started)
            fit = [variant for variant in self._variants if variant in self._scored and variant not in self._watched]
            for variant in self._variants:
                if variant not in self._scored:
                    continue
                others = [other for other in fit if other != variant]
                watched = self._watched.get(variant)
                if watched is not None and not others:
                    others = [other for other in self._variants if other in self._scored and other != variant]
                contrast = AipwContrast.of(variant, others, weights, drawn=answer.variant, loss=bad, mean=mean)
                if contrast is None:
                    continue
                if watched is None or watched.restoring:
                    self._update(variant, "others", contrast.z_worse, answer)
                if watched is not None and MEASURE_OF[watched.about] == "loss":
                    z = contrast.z_non_inferior(self._limits.margin)
                    self._update_recovery(watched, watched.proofs[0], z, answer, own=variant == answer.variant)
        self._scored.add(answer.variant)
        self._baseline.add(started, bad)

    def _range(self, answer: Observation, bad: float) -> None:
        if self._limits.min_score is None:
            return
        bound = 1.0 - self._limits.min_score
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._update(answer.variant, "range", z_above(bad, bound), answer)
        if watched is not None and watched.about == "range":
            self._update_recovery(watched, watched.proofs[-1], z_below(bad, bound), answer)

    def _past(self, answer: Observation, bad: float) -> None:
        watched = self._watched.get(answer.variant)
        if watched is not None:
            if watched.about == "past" and watched.past is not None and len(self._variants) == 1:
                z = z_below(bad, min(1.0, watched.past + self._limits.margin))
                self._update_recovery(watched, watched.proofs[0], z, answer)
            if not watched.restoring:
                return
        level = self._bounds[answer.variant]
        weight = level.weight(answer.question)
        if level.warm and level.upper < 1.0:
            bound = level.upper + drift_of_others(self._counts, self._others(answer.variant), level.begun)
            self._update(answer.variant, "past", weight * z_above(bad, min(1.0, bound)), answer)
        level.add(bad, weight, self._log_inverse_alpha, self._mark)

    def _ceiling(self, answer: Observation, about: Criterion, over: bool | None) -> None:
        if over is None or about not in self._criteria:
            return
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._update(answer.variant, about, z_above(over, ALLOWED_ABOVE_CEILING), answer)
        if watched is not None and watched.about == about:
            self._update_recovery(
                watched, watched.proofs[0], z_below(over, ALLOWED_ABOVE_CEILING + self._limits.margin), answer
            )
        self._counts.add(answer.variant, MEASURE_OF[about], over)

    def _update(self, variant: str, about: Criterion, z: float, answer: Observation) -> None:
        bets = self._e_detectors[variant][about]
        if bets.update(z, self._number):
            bets.mark_change(answer.at, self._counts.mark(MEASURE_OF[about]))
        if z > 0.0 and variant == answer.variant:
            bets.add_evidence(z, answer.run)

    def _update_recovery(
        self, watched: RecoveryWatch, proof: RecoveryEProcess, z: float, answer: Observation, *, own: bool = True
    ) -> None:
        if proof.update(z, own=own):
            proof.mark_change(answer.at, self._counts.mark(MEASURE_OF[watched.about]))

    def _mark(self) -> Totals:
        return self._counts.mark("loss")

    def _weights(self, answer: Observation) -> Mapping[str, float] | None:
        """Return the probabilities of all variants in the draw; None = not known."""
        if answer.weights is not None:
            return answer.weights
        if len(self._variants) != 2:  # noqa: PLR2004  # of two, one's probability tells the other's
            return None
        return dict.fromkeys(self._variants, 1.0 - answer.probability) | {answer.variant: answer.probability}

    def _alarm(self) -> Finding | None:
        most, blamed = 0.0, ""
        for variant, bets in self._e_detectors.items():
            total = 0.0
            for one in bets.values():
                total += one.total
            if total > most:
                most, blamed = total, variant
        statistic = most * self._share
        if statistic < self._threshold:
            return None
        bets = self._e_detectors[blamed]
        about = max(bets, key=lambda one: bets[one].total)
        if about == "past" and self._is_common_shift(blamed):
            return None
        finding = Finding(
            variant=blamed,
            about=about,
            method=METHODS[about],
            statistic=round(statistic, 1),
            threshold=self._threshold,
            samples=self._counts.samples(MEASURE_OF[about], bets[about].before),
            runs=bets[about].top_runs(),
            since=bets[about].at,
        )
        if self._bounds[blamed].warm:
            self._loss_before_alarm[blamed] = self._bounds[blamed].mean
        self._restart(blamed)
        return finding

    def _is_common_shift(self, variant: str) -> bool:
        """Return whether the shift of a variant is, or may be, one of all variants.

        This suppresses alarms and adds none, so it cannot increase the rate of false ones.
        """
        bets = self._e_detectors[variant]["past"]
        verdict = common_shift(self._counts, variant, self._others(variant), self._bounds[variant].begun, bets.before)
        if verdict is CommonShift.PERHAPS:
            bets.cap(self._threshold / self._share)
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
            "number": self._number,
            "at": self._at,
            "bets": {
                variant: {about: one.snapshot() for about, one in bets.items()}
                for variant, bets in self._e_detectors.items()
            },
            "levels": {variant: level.snapshot() for variant, level in self._bounds.items()},
            "was": dict(self._loss_before_alarm),
            "known": [variant for variant in self._variants if variant in self._scored],
            "watched": {variant: watched.snapshot() for variant, watched in self._watched.items()},
            "baseline": self._baseline.snapshot(),
            "tally": self._counts.snapshot(),
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
        number = detectors._number = snapshot["number"]
        detectors._at = snapshot["at"]
        for variant, bets in snapshot["bets"].items():
            detectors._e_detectors[variant] = {
                about: EDetector.restore(bets[about]) if about in bets else EDetector(number)
                for about in detectors._criteria
            }
        detectors._bounds = {variant: HistoricalBound.restore(kept) for variant, kept in snapshot["levels"].items()}
        detectors._loss_before_alarm = dict(snapshot["was"])
        detectors._scored = set(snapshot["known"])
        detectors._watched = {variant: RecoveryWatch.restore(kept) for variant, kept in snapshot["watched"].items()}
        detectors._baseline = Baseline.restore(snapshot["baseline"])
        detectors._counts = Counts.restore(variants, snapshot["tally"])
        return detectors


def criteria(variants: int, limits: Limits) -> tuple[Criterion, ...]:
    """Return the criteria that variants are tested for."""
    asked: dict[Criterion, bool] = {
        "others": variants > 1,
        "past": True,
        "range": limits.min_score is not None,
        "latency": limits.max_latency is not None,
        "cost": limits.max_cost is not None,
    }
    return tuple(about for about, wanted in asked.items() if wanted)


def same_detection(one: Limits, other: Limits) -> bool:
    """Return whether limits differ at most in how far and how often a share moves."""
    return one.model_copy(update={"step": other.step, "cooldown_answers": other.cooldown_answers}) == other
