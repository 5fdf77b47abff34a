"""Observations made from scores."""

import math
from collections.abc import Mapping
from typing import Final

from poise.contracts.json_size import truncate_to_json_size
from poise.contracts.policy import Limits
from poise.contracts.record import Score
from poise.policy.detection import Observation

SKIPPED: Final = "raw_skipped"
"""The value of a score that says that the variant was drawn and skipped."""
MAX_RUN_ID_BYTES: Final = 300
"""Bytes of a run id that are remembered: a snapshot has many and must fit into one record."""


def observation_of(score: Score, limits: Limits, shares: Mapping[str, float] | None) -> Observation | None:
    """Return a score as an observation; None = it says nothing, for example because the answer came from the cache.

    A skipped variant is observed without a loss: the detectors do not compare it.
    """
    values = {name: value for name, value in score.values.items() if math.isfinite(value)}
    value = 0.0 if values.get("raw_fault", 0.0) >= 1 else values.get(limits.score, math.nan)
    ms, cost = values.get("raw_ms"), values.get("raw_cost")
    found = Observation(
        run=truncate_to_json_size(score.run_id, MAX_RUN_ID_BYTES),
        variant=score.variant,
        probability=score.probability,
        finished_at=score.at,
        loss=None if math.isnan(value) else 1.0 - min(1.0, max(0.0, value)),
        over_latency=ms / 1_000 > limits.max_latency if ms is not None and limits.max_latency is not None else None,
        over_cost=cost > limits.max_cost if cost is not None and limits.max_cost is not None else None,
        question=score.question,
        started_at=score.at - values.get("latency_ms.total", 0.0) / 1_000,
        shares=shares,
    )
    return found if is_informative(found) or SKIPPED in values else None


def is_informative(answer: Observation) -> bool:
    """Return whether the loss, the latency or the cost of an answer is known."""
    return answer.loss is not None or answer.over_latency is not None or answer.over_cost is not None
