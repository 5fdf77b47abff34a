"""Predictable detectors: a number of bad answers in a row is an alarm, a number of good ones a recovery."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from poise.contracts.policy import Criterion, Finding, Limits, Sample
from poise.policy.detection import Observation
from poise.policy.detection.detectors import SNAPSHOT_FORMAT

ENOUGH = 5
"""Answers in a row."""


class CountingDetectors:
    """Detectors with the interface of `poise.policy.detection.Detectors`."""

    def __init__(self, variants: Sequence[str], limits: Limits) -> None:  # noqa: ARG002 - the interface's
        self._rows = dict.fromkeys(variants, 0)  # bad ones in a row, or minus the good ones
        self._watched: dict[str, Criterion] = {}
        self._restoring: set[str] = set()
        self._since = 0.0

    def update(self, answer: Observation) -> Finding | None:
        row, bad = self._rows[answer.variant], bool(answer.over_latency) or (answer.loss or 0.0) > 0.5
        self._rows[answer.variant] = max(row, 0) + 1 if bad else min(row, 0) - 1
        self._since = self._since or answer.finished_at
        if self._rows[answer.variant] < ENOUGH or answer.variant in self._watched.keys() - self._restoring:
            return None
        self._rows[answer.variant] = 0
        return self._found(answer.variant, "latency" if answer.over_latency else "others", 0.0, (answer.run,))

    def watch_recovery(self, variant: str, about: Criterion, *, restoring: bool = False) -> None:
        self._watched[variant] = about
        self._restoring = self._restoring | {variant} if restoring else self._restoring - {variant}
        self._rows[variant] = 0

    def recovered(self, variant: str) -> Finding | None:
        if -self._rows[variant] < ENOUGH:
            return None
        return self._found(variant, self._watched[variant], 1.0, ())

    def stop_watching(self, variant: str) -> None:
        self._watched.pop(variant, None)
        self._restoring.discard(variant)
        self._rows[variant] = 0

    def _found(self, variant: str, about: Criterion, mean: float, runs: tuple[str, ...]) -> Finding:
        return Finding(
            variant=variant,
            about=about,
            method="so many in a row",
            statistic=ENOUGH,
            threshold=ENOUGH,
            samples={variant: Sample(count=ENOUGH, mean=mean, low=mean, high=mean)},
            runs=runs,
            since=self._since,
        )

    def snapshot(self) -> dict[str, Any]:
        return {
            "format": SNAPSHOT_FORMAT,
            "rows": self._rows.copy(),
            "watched": self._watched.copy(),
            "restoring": sorted(self._restoring),
            "since": self._since,
        }

    @classmethod
    def restore(cls, variants: Sequence[str], limits: Limits, snapshot: Mapping[str, Any]) -> Self:
        self = cls(variants, limits)
        self._rows, self._watched = dict(snapshot["rows"]), dict(snapshot["watched"])
        self._since, self._restoring = snapshot["since"], set(snapshot["restoring"])
        return self
