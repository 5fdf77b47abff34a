"""Together: whether all variants became worse at once, which is the traffic's doing and no variant's. Pure."""

import math
from collections.abc import Collection
from enum import Enum
from typing import Final

from poise.policy.detection.counts import Counts, Totals

MIN_ANSWERS: Final = 20
"""Answers of the others that can tell it."""
MAX_OWN_ANSWERS: Final = 400
"""Answers of the variant for which those are waited for."""
COMMON_FRACTION: Final = 0.25
"""Of the variant's rise, so much of the others' is no chance."""


class CommonShift(Enum):
    """What the others' answers tell."""

    NO = "it alone"
    PERHAPS = "it is too early to tell"
    YES = "all of them"


def drift_of_others(tally: Counts, others: Collection[str], begun: Totals) -> float:
    """How much worse the others are of late than they were since then, 0 or more."""
    count, rise = 0, 0.0
    for other in others:
        answers, was = tally.since("loss", begun, other)
        count += answers
        rise += answers * (tally.recent(other) - was)
    return max(0.0, rise / count) if count else 0.0


def common_shift(tally: Counts, variant: str, others: Collection[str], begun: Totals, before: Totals) -> CommonShift:
    """Whether the others became worse at the same time as a variant: differences in differences.

    Args:
        tally: What was counted.
        variant: The one that became worse.
        others: Those that it is compared with.
        begun: When its past began.
        before: When it became worse.
    """
    own, worse = tally.since("loss", before, variant)
    rise = worse - tally.between(begun, before, variant)[1]
    count, total, mean = 0, 0.0, 0.0
    for other in others:
        answers, bad = tally.since("loss", before, other)
        earlier, was = tally.between(begun, before, other)
        if answers and earlier:
            count += answers
            total += answers * (bad - was)
            mean += answers * bad
    if count < MIN_ANSWERS:
        return CommonShift.PERHAPS if others and own < MAX_OWN_ANSWERS else CommonShift.NO
    total, mean = total / count, mean / count
    error = math.sqrt(max(0.0, mean * (1.0 - mean)) / count)
    # Asked at each answer, chance alone would sooner or later say that the others did not rise: it takes two errors.
    if total < COMMON_FRACTION * rise and total + 2.0 * error < (1.0 - COMMON_FRACTION) * rise:
        return CommonShift.NO
    return CommonShift.YES if total - 2.0 * error >= COMMON_FRACTION * rise else CommonShift.PERHAPS
