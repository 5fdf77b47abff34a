"""Synthetic balance acts: seeded histories for tests of the screen and the picture."""

import random
from typing import Final

from poise_labs.balance.timeline import EventKind, ScoredAnswer, Timeline, TimelineEvent, WeightsPoint

BEGAN: Final = 1_700_000_000.0
FAULT: Final = 50.0
NOTICED: Final = 95.0
FAULT_FIXED: Final = 110.0
RESTORED: Final = 180.0
"""Seconds of the act."""


def act(until: float = 200.0, *, fault: bool = True) -> Timeline:
    """Return the state of an act after `until` seconds."""
    chance = random.Random(1)
    timeline = Timeline(("steady", "second"), BEGAN, BEGAN + until, "A fault", "second was deployed with a fault.")
    timeline.weights.append(WeightsPoint(BEGAN, {"steady": 0.5, "second": 0.5}))
    timeline.events.append(TimelineEvent(BEGAN, "set", "you sets steady 50 %, second 50 %"))
    happened: tuple[tuple[float, EventKind, str, float | None], ...] = (
        (FAULT, "fault", "second is deployed with a fault", None),
        (NOTICED, "noticed", "second answers worse than the others: " + "quality 0.41 against 0.84, " * 4, 0.2),
        (FAULT_FIXED, "fault_fixed", "second is deployed without the fault", None),
        (RESTORED, "restored", "second has recovered", 0.5),
    )
    for at, kind, text, share in happened:
        if fault and at <= until:
            timeline.events.append(TimelineEvent(BEGAN + at, kind, text))
            if share is not None:
                timeline.weights.append(WeightsPoint(BEGAN + at, {"steady": 1 - share, "second": share}))
    second = 0.0
    while (second := second + chance.expovariate(1.5)) < until:
        at = BEGAN + second
        variant = "second" if chance.random() < timeline.share("second", until=at) else "steady"
        bad = fault and variant == "second" and FAULT < second < FAULT_FIXED and chance.random() < 0.7
        timeline.answers.append(ScoredAnswer(at, variant, min(1.0, max(0.0, chance.gauss(0.15 if bad else 0.85, 0.1)))))
    return timeline
