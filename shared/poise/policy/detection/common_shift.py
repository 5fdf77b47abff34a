"""A common shift: all variants became worse at once, which the traffic causes and no variant. No clock, no I/O."""

import math
from collections.abc import Collection
from enum import Enum
from typing import Final

from poise.policy.detection.counts import Counts, Totals

MIN_ANSWERS: Final = 20
"""Answers of the others that are enough to judge."""
MAX_OWN_ANSWERS: Final = 400
"""Answers of the variant during which to wait for those of the others."""
COMMON_FRACTION: Final = 0.25
"""Fraction of the variant's increase that, seen in the others, is attributed to a common shift."""


class CommonShift(Enum):
    """Whether the others became worse too."""

    NO = "it alone"
    PERHAPS = "it is too early to tell"
    YES = "all of them"


def drift_of_others(counts: Counts, others: Collection[str], initial_totals: Totals) -> float:
    """Return how much worse the others are recently than on average since `initial_totals`, 0 or more."""
    count, rise = 0, 0.0
    for other in others:
        answers, mean = counts.since("loss", initial_totals, other)
        count += answers
        rise += answers * (counts.recent(other) - mean)
    return max(0.0, rise / count) if count else 0.0


def common_shift(
    counts: Counts, variant: str, others: Collection[str], initial_totals: Totals, before: Totals
) -> CommonShift:
    """Return whether the others became worse at the same time as a variant: difference in differences.

    Args:
        counts: The counts.
        variant: The variant that became worse.
        others: The variants that it is compared with.
        initial_totals: The totals when its history began.
        before: The totals when it became worse.
    """
    own, worse = counts.since("loss", before, variant)
    rise = worse - counts.between(initial_totals, before, variant)[1]
    count, total, mean = 0, 0.0, 0.0
    for other in others:
        answers, loss = counts.since("loss", before, other)
        earlier, loss_before = counts.between(initial_totals, before, other)
        if answers and earlier:
            count += answers
            total += answers * (loss - loss_before)
            mean += answers * loss
    if count < MIN_ANSWERS:
        return CommonShift.PERHAPS if others and own < MAX_OWN_ANSWERS else CommonShift.NO
    total, mean = total / count, mean / count
    error = math.sqrt(max(0.0, mean * (1.0 - mean)) / count)
    # This is tested after every answer, so chance alone would sooner or later say NO: two standard errors are required.
    if total < COMMON_FRACTION * rise and total + 2.0 * error < (1.0 - COMMON_FRACTION) * rise:
        return CommonShift.NO
    return CommonShift.YES if total - 2.0 * error >= COMMON_FRACTION * rise else CommonShift.PERHAPS
