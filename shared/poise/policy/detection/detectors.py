"""The detectors of one policy: what each answer says of whether a variant has become worse, or has recovered."""

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
    "past": "e-detector z_above an empirical Bernstein bound",
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
"""The share of the false alarms that may come of a bound of the past that fails; the threshold is higher for it."""
SNAPSHOT_FORMAT: Final = 2
"""Of the snapshot: raised when it changes, for from one of another format there is no going on."""
ALLOWED_ABOVE_CEILING: Final = 0.05
"""The share of its answers that may be above a ceiling."""


class Detectors:
    """All detectors of a policy. No clock, no IO, no randomness: the same answers give the same findings.

    Each is an e-detector, whose expectation is at most the number of answers while nothing is wrong; so is their
    weighted average. An alarm is raised for a variant when its own part of that average reaches `quiet_answers`, and
    takes that part away: false alarms come at most once in so many answers, over all variants, detectors and restarts.

    Args:
        variants: The variants that are drawn.
        limits: How seldom an alarm may be false, and what is to be kept.
    """

    def __init__(self, variants: Sequence[str], limits: Limits) -> None:
        self._variants = tuple(variants)
        self._limits = limits
        self._abouts = criteria(len(self._variants), limits)
        self._threshold = limits.quiet_answers * (1.0 + 2.5 * BOUND_FAILURE_SHARE)
        self._share = 1.0 / (len(self._variants) * len(self._abouts) * len(BET_FRACTIONS))
        self._doubt = -math.log(min(BOUND_FAILURE_SHARE, BOUND_FAILURE_SHARE * WINDOW / limits.quiet_answers))
        self._number = 0
        self._at = 0.0
        self._bets = {variant: {about: EDetector() for about in self._abouts} for variant in self._variants}
        self._tally = Counts(self._variants)
        self._levels = {variant: HistoricalBound(self._mark()) for variant in self._variants}
        self._was: dict[str, float] = {}
        """How bad answers were before the last alarm, where that is known."""
        self._known = set(self._variants)
        """The variants whose last answer was scored: one whose answers are not known can be compared with nothing."""
        self._watched: dict[str, RecoveryWatch] = {}
        self._baseline = Baseline()

    def update(self, answer: Observation) -> Finding | None:
        """Take in an answer; what is returned is an alarm: that variant is worse. It begins anew to watch for it.

        While a variant is watched for recovery, it raises no alarm, unless it is on its way back.
        """
        if answer.variant not in self._bets:
            return None
        if answer.loss is None:
            self._known.discard(answer.variant)
            if answer.over_latency is None and answer.over_cost is None:
                return None
        self._number += 1
        self._at = answer.at
        if answer.loss is not None:
            self._compare(answer, answer.loss)
            self._range(answer, answer.loss)
            self._past(answer, answer.loss)
            self._tally.add(answer.variant, "loss", answer.loss)
        self._ceiling(answer, "latency", answer.over_latency)
        self._ceiling(answer, "cost", answer.over_cost)
        return self._alarm()

    def watch_recovery(self, variant: str, about: Criterion, *, restoring: bool = False) -> None:
        """Begin to watch a variant for recovery of that.

        Args:
            variant: The variant.
            about: What it was in trouble with.
            restoring: It was promoted and is given more weight again, so that it also raises alarms; else it has just
                raised one.
        """
        self._begin(variant)
        proofs = 2 if about == "range" and len(self._variants) > 1 else 1
        before = self._tally.mark(MEASURE_OF[about])
        made = [RecoveryEProcess(self._at, before) for _ in range(proofs)]
        self._watched[variant] = RecoveryWatch(about, self._was.get(variant), made, restoring=restoring)

    def recovered(self, variant: str) -> Finding | None:
        """Whether a watched variant has been shown to have recovered, and by what."""
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
            samples=self._tally.samples(MEASURE_OF[watched.about], shown.before),
            since=shown.at,
        )

    def stop_watching(self, variant: str) -> None:
        """Watch a variant no more: alarms are raised again."""
        if self._watched.pop(variant, None) is not None:
            self._begin(variant)

    @property
    def threshold(self) -> float:
        """What the evidence against a variant must reach for an alarm."""
        return self._threshold

    def evidence(self) -> dict[str, float]:
        """By variant, how far the evidence that it is worse has come."""
        return {variant: sum(one.total for one in bets.values()) * self._share for variant, bets in self._bets.items()}

    def recovery_evidence(self, variant: str) -> float | None:
        """Return the evidence of recovery, shown at `RECOVERY_THRESHOLD`; None = the variant is not watched."""
        watched = self._watched.get(variant)
        return None if watched is None else watched.least.value

    def _begin(self, variant: str) -> None:
        self._bets[variant] = {about: EDetector(self._number) for about in self._abouts}
        self._levels[variant] = HistoricalBound(self._mark())

    def _compare(self, answer: Observation, bad: float) -> None:
        """Each variant with all others together."""
        started = answer.at if answer.started is None else answer.started
        weights = self._weights(answer)
        if weights is not None and answer.variant in self._known:
            mean = self._baseline.at(started)
            fit = [variant for variant in self._variants if variant in self._known and variant not in self._watched]
            for variant in self._variants:
                if variant not in self._known:
                    continue
                others = [other for other in fit if other != variant]
                watched = self._watched.get(variant)
                if watched is not None and not others:
                    others = [other for other in self._variants if other in self._known and other != variant]
                contrast = AipwContrast.of(variant, others, weights, drawn=answer.variant, loss=bad, mean=mean)
                if contrast is None:
                    continue
                if watched is None or watched.restoring:
                    self._bet(variant, "others", contrast.z_worse, answer)
                if watched is not None and MEASURE_OF[watched.about] == "loss":
                    z = contrast.z_non_inferior(self._limits.margin)
                    self._prove(watched, watched.proofs[0], z, answer, own=variant == answer.variant)
        self._known.add(answer.variant)
        self._baseline.add(started, bad)

    def _range(self, answer: Observation, bad: float) -> None:
        if self._limits.low is None:
            return
        bound = 1.0 - self._limits.low
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._bet(answer.variant, "range", z_above(bad, bound), answer)
        if watched is not None and watched.about == "range":
            self._prove(watched, watched.proofs[-1], z_below(bad, bound), answer)

    def _past(self, answer: Observation, bad: float) -> None:
        watched = self._watched.get(answer.variant)
        if watched is not None:
            if watched.about == "past" and watched.past is not None and len(self._variants) == 1:
                z = z_below(bad, min(1.0, watched.past + self._limits.margin))
                self._prove(watched, watched.proofs[0], z, answer)
            if not watched.restoring:
                return
        level = self._levels[answer.variant]
        weight = level.weight(answer.question)
        if level.warm and level.upper < 1.0:
            bound = level.upper + drift_of_others(self._tally, self._others(answer.variant), level.begun)
            self._bet(answer.variant, "past", weight * z_above(bad, min(1.0, bound)), answer)
        level.add(bad, weight, self._doubt, self._mark)

    def _ceiling(self, answer: Observation, about: Criterion, over: bool | None) -> None:
        if over is None or about not in self._abouts:
            return
        watched = self._watched.get(answer.variant)
        if watched is None or watched.restoring:
            self._bet(answer.variant, about, z_above(over, ALLOWED_ABOVE_CEILING), answer)
        if watched is not None and watched.about == about:
            self._prove(watched, watched.proofs[0], z_below(over, ALLOWED_ABOVE_CEILING + self._limits.margin), answer)
        self._tally.add(answer.variant, MEASURE_OF[about], over)

    def _bet(self, variant: str, about: Criterion, z: float, answer: Observation) -> None:
        bets = self._bets[variant][about]
        if bets.update(z, self._number):
            bets.mark_change(answer.at, self._tally.mark(MEASURE_OF[about]))
        if z > 0.0 and variant == answer.variant:
            bets.add_evidence(z, answer.run)

    def _prove(
        self, watched: RecoveryWatch, proof: RecoveryEProcess, z: float, answer: Observation, *, own: bool = True
    ) -> None:
        if proof.update(z, own=own):
            proof.mark_change(answer.at, self._tally.mark(MEASURE_OF[watched.about]))

    def _mark(self) -> Totals:
        return self._tally.mark("loss")

    def _weights(self, answer: Observation) -> Mapping[str, float] | None:
        """The probabilities of all variants in the draw, as far as they can be known."""
        if answer.weights is not None:
            return answer.weights
        if len(self._variants) != 2:  # noqa: PLR2004  # of two, one's probability tells the other's
            return None
        return dict.fromkeys(self._variants, 1.0 - answer.probability) | {answer.variant: answer.probability}

    def _alarm(self) -> Finding | None:
        most, blamed = 0.0, ""
        for variant, bets in self._bets.items():
            total = 0.0
            for one in bets.values():
                total += one.total
            if total > most:
                most, blamed = total, variant
        statistic = most * self._share
        if statistic < self._threshold:
            return None
        bets = self._bets[blamed]
        about = max(bets, key=lambda one: bets[one].total)
        if about == "past" and self._blameless(blamed):
            return None
        finding = Finding(
            variant=blamed,
            about=about,
            method=METHODS[about],
            statistic=round(statistic, 1),
            threshold=self._threshold,
            samples=self._tally.samples(MEASURE_OF[about], bets[about].before),
            runs=bets[about].top_runs(),
            since=bets[about].at,
        )
        if self._levels[blamed].warm:
            self._was[blamed] = self._levels[blamed].mean
        self._begin(blamed)
        return finding

    def _blameless(self, variant: str) -> bool:
        """Whether what looks like a variant's shift is not to be told from one of all, or is one of all.

        It takes alarms away and adds none, so that it cannot make them more often false.
        """
        bets = self._bets[variant]["past"]
        verdict = common_shift(self._tally, variant, self._others(variant), self._levels[variant].begun, bets.before)
        if verdict is CommonShift.PERHAPS:
            bets.cap(self._threshold / self._share)
        if verdict is CommonShift.YES:
            for one in self._variants:
                self._bets[one]["past"] = EDetector(self._number)
                self._levels[one] = HistoricalBound(self._mark())
        return verdict is not CommonShift.NO

    def _others(self, variant: str) -> list[str]:
        """Those that a variant can be compared with: the others that are not in trouble."""
        return [other for other in self._variants if other != variant and other not in self._watched]

    def snapshot(self) -> dict[str, Any]:
        """All that it remembers, as JSON has it."""
        return {
            "format": SNAPSHOT_FORMAT,
            "variants": list(self._variants),
            "number": self._number,
            "at": self._at,
            "bets": {
                variant: {about: one.snapshot() for about, one in bets.items()} for variant, bets in self._bets.items()
            },
            "levels": {variant: level.snapshot() for variant, level in self._levels.items()},
            "was": dict(self._was),
            "known": [variant for variant in self._variants if variant in self._known],
            "watched": {variant: watched.snapshot() for variant, watched in self._watched.items()},
            "baseline": self._baseline.snapshot(),
            "tally": self._tally.snapshot(),
        }

    @classmethod
    def restore(cls, variants: Sequence[str], limits: Limits, snapshot: Mapping[str, Any]) -> Self:
        """Go on from a snapshot, to the bit; with other limits, what they newly ask for begins with this.

        Raises:
            ValueError: It is of other variants.
        """
        if list(variants) != list(snapshot["variants"]):
            raise ValueError(f"a snapshot of {snapshot['variants']} cannot go on with {list(variants)}: begin anew")
        detectors = cls(variants, limits)
        number = detectors._number = snapshot["number"]
        detectors._at = snapshot["at"]
        for variant, bets in snapshot["bets"].items():
            detectors._bets[variant] = {
                about: EDetector.restore(bets[about]) if about in bets else EDetector(number)
                for about in detectors._abouts
            }
        detectors._levels = {variant: HistoricalBound.restore(kept) for variant, kept in snapshot["levels"].items()}
        detectors._was = dict(snapshot["was"])
        detectors._known = set(snapshot["known"])
        detectors._watched = {variant: RecoveryWatch.restore(kept) for variant, kept in snapshot["watched"].items()}
        detectors._baseline = Baseline.restore(snapshot["baseline"])
        detectors._tally = Counts.restore(variants, snapshot["tally"])
        return detectors


def criteria(variants: int, limits: Limits) -> tuple[Criterion, ...]:
    """What variants are tested for."""
    asked: dict[Criterion, bool] = {
        "others": variants > 1,
        "past": True,
        "range": limits.low is not None,
        "latency": limits.latency is not None,
        "cost": limits.cost is not None,
    }
    return tuple(about for about, wanted in asked.items() if wanted)


def same_detection(one: Limits, other: Limits) -> bool:
    """Whether limits differ at most in how far and how often a share moves."""
    return one.model_copy(update={"step": other.step, "pause": other.pause}) == other
