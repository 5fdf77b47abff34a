"""Traffic: labeled answers of two variants, in the order in which their scores arrive."""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from poise.policy.detection import Observation

PRIMARY, CANARY = "primary", "canary"
USUAL: Final = 0.05
"""The share of wrong answers of a good variant."""
WORSE: Final = 0.15
RATE: Final = 20.0
"""Runs per second."""

Scored = Callable[[bool, random.Random], float]
"""Returns the loss, 0 to 1, of an answer that is wrong or right."""


def truly(wrong: bool, _chance: random.Random) -> float:
    """Return the true label as the loss."""
    return float(wrong)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic: how often the canary is drawn, how often answers are wrong, and how long they take."""

    share: Callable[[float], float]
    """The probability of the canary at a time in seconds from the start."""
    wrong: Callable[[float], float] = lambda _: USUAL
    """The share of wrong answers of a good variant at a time."""
    takes: Mapping[str, float] = field(default_factory=dict)
    """Seconds until the score of a variant's answer arrives."""
    good: float = math.inf
    """The number of good answers of the canary before it becomes worse."""
    scored: Scored = truly

    def answers(self, seed: int, rate: float = RATE) -> Iterator[Observation]:
        """Generate answers without end."""
        chance = random.Random(seed)
        waiting: list[tuple[float, int, Observation]] = []
        drawn = 0
        for number in count():
            started = number / rate
            probability = self.share(started)
            canary = chance.random() < probability
            drawn += canary
            variant = CANARY if canary else PRIMARY
            wrong = chance.random() < (WORSE if canary and drawn > self.good else self.wrong(started))
            at = started + self.takes.get(variant, 0.0)
            own = probability if canary else 1.0 - probability
            bad = self.scored(wrong, chance)
            seen = Observation(f"run-{number}", variant, own, at, loss=bad, started_at=started)
            heapq.heappush(waiting, (at, number, seen))
            while waiting and waiting[0][0] <= started:
                yield heapq.heappop(waiting)[2]


def constant(share: float) -> Traffic:
    """Return constant traffic."""
    return Traffic(lambda _: share)


def drifting(share: float) -> Traffic:
    """Return traffic with 2 to 12 % wrong answers, varying over hours, the same for both variants."""
    return Traffic(lambda _: share, wrong=lambda at: 0.07 + 0.05 * math.sin(at / 1_000.0))


def jumping(share: float) -> Traffic:
    """Return traffic that jumps every ten minutes between 3 and 20 % wrong answers."""
    return Traffic(lambda _: share, wrong=lambda at: 0.2 if int(at / 600.0) % 2 else 0.03)


def moving(_share: float) -> Traffic:
    """Return traffic as in `drifting` with weights that move every three minutes."""
    shares = (0.05, 0.5, 0.2, 0.95, 0.1)
    return Traffic(lambda at: shares[int(at / 180.0) % 5], wrong=lambda at: 0.07 + 0.05 * math.sin(at / 1_000.0))


def late(share: float) -> Traffic:
    """Return traffic as in `drifting` with a canary whose answers take half a minute."""
    return Traffic(lambda _: share, wrong=drifting(share).wrong, takes={CANARY: 30.0})


KINDS: Final[Mapping[str, Callable[[float], Traffic]]] = {
    "constant": constant,
    "drifting": drifting,
    "jumping": jumping,
    "moving weights": moving,
    "a slow variant": late,
}
