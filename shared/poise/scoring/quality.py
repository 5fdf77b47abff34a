"""Quality: how likely an answer is right, told from what its passages bear of it."""

import math
from typing import Final

_BASE: Final = -1.96
_GROUNDED: Final = 1.35
_RELEVANT: Final = 0.91


def quality(grounded: float, relevant: float) -> float:
    """How likely an answer is right, 0 to 1: logistic regression, fitted on answers that were judged one by one."""
    return 1 / (1 + math.exp(-(_BASE + _GROUNDED * grounded + _RELEVANT * relevant)))
