"""Traffic: answers of two variants whose truth is known, in the order in which their scores arrive."""

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
"""How bad an answer that is wrong, or is not, is taken to be: 0 to 1."""


def truly(wrong: bool, _chance: random.Random) -> float:
    """True labels."""
    return float(wrong)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes: how often the canary is drawn, how often answers are wrong, and how long they take."""

    share: Callable[[float], float]
    """The probability of the canary at a time, seconds from the beginning."""
    wrong: Callable[[float], float] = lambda _: USUAL
    """The share of wrong answers of a good variant at a time."""
    takes: Mapping[str, float] = field(default_factory=dict)
    """Seconds until the score of a variant's answer arrives."""
    good: float = math.inf
    """So many answers of the canary are good; from then on it is worse."""
    scored: Scored = truly

    def answers(self, seed: int, rate: float = RATE) -> Iterator[Observation]:
        """For ever."""
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
            seen = Observation(f"run-{number}", variant, own, at, loss=bad, started=started)
            heapq.heappush(waiting, (at, number, seen))
            while waiting and waiting[0][0] <= started:
                yield heapq.heappop(waiting)[2]


def constant(share: float) -> Traffic:
    """Nothing changes."""
    return Traffic(lambda _: share)


def drifting(share: float) -> Traffic:
    """Questions become harder and easier, 2 to 12 % of the answers are wrong, within hours; both variants alike."""
    return Traffic(lambda _: share, wrong=lambda at: 0.07 + 0.05 * math.sin(at / 1_000.0))


def jumping(share: float) -> Traffic:
    """Every ten minutes other questions come, from one answer to the next: 3 or 20 % of the answers are wrong."""
    return Traffic(lambda _: share, wrong=lambda at: 0.2 if int(at / 600.0) % 2 else 0.03)


def moving(_share: float) -> Traffic:
    """Weights move every three minutes, while questions become harder and easier."""
    shares = (0.05, 0.5, 0.2, 0.95, 0.1)
    return Traffic(lambda at: shares[int(at / 180.0) % 5], wrong=lambda at: 0.07 + 0.05 * math.sin(at / 1_000.0))


def late(share: float) -> Traffic:
    """The canary's answers take half a minute, the primary's none; questions change as in `drifting`."""
    return Traffic(lambda _: share, wrong=drifting(share).wrong, takes={CANARY: 30.0})


KINDS: Final[Mapping[str, Callable[[float], Traffic]]] = {
    "constant": constant,
    "drifting": drifting,
    "jumping": jumping,
    "moving weights": moving,
    "a slow variant": late,
}
