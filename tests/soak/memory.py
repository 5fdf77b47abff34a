"""Memory: resident sizes over time, and whether they stay flat."""

import asyncio
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from chaos_kit import rss
from two_node_mesh import TwoNodeMesh

EVERY: Final = 5.0
WARM_UP: Final = 0.3
"""The share of the time that does not count: caches fill, and Python's allocator settles."""
FLAT: Final = 1.10
"""The last quarter over the first of what counts, median over median, at most;"""
SLACK: Final = 20.0
"""or a number of MB more."""


@dataclass
class Memory:
    """What every worker held, over time."""

    ground: TwoNodeMesh
    samples: dict[str, list[tuple[float, int, float]]] = field(default_factory=lambda: defaultdict(list))
    """By worker: unix seconds, process id, MB."""

    async def sample(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            for worker in self.ground.workers:
                if worker.child.alive:
                    try:
                        held = rss(worker.pid)
                    except (OSError, ValueError):
                        continue  # it ended while we looked
                    self.samples[worker.name].append((time.time(), worker.pid, held))
            await asyncio.sleep(EVERY)

    def grown(self) -> dict[str, tuple[float, float]]:
        """By worker, MB early and late, medians, of the process that is there at the end."""
        found = {}
        for name, samples in self.samples.items():
            last = samples[-1][1]
            own = [held for _, pid, held in samples if pid == last]
            counted = own[round(len(own) * WARM_UP) :]
            quarter = max(1, len(counted) // 4)
            found[name] = statistics.median(counted[:quarter]), statistics.median(counted[-quarter:])
        return found


def flat(early: float, late: float) -> bool:
    """Whether it did not grow, except for noise."""
    return late <= max(early * FLAT, early + SLACK)
