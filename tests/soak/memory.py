"""Resident memory of the workers over time, and whether it stays flat."""

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
"""The share of the samples to skip: caches fill, and Python's allocator settles."""
FLAT: Final = 1.10
"""Maximum ratio of the median of the last quarter to that of the first;"""
SLACK: Final = 20.0
"""or maximum difference, MB."""


@dataclass
class Memory:
    """Samples of the resident memory of every worker."""

    mesh: TwoNodeMesh
    samples: dict[str, list[tuple[float, int, float]]] = field(default_factory=lambda: defaultdict(list))
    """By worker: unix seconds, process id, MB."""

    async def sample(self) -> None:
        """Take a sample of every worker every few seconds, until cancelled."""
        while True:
            for worker in self.mesh.workers:
                if worker.child.alive:
                    try:
                        resident = rss(worker.pid)
                    except (OSError, ValueError):
                        continue  # it ended meanwhile
                    self.samples[worker.name].append((time.time(), worker.pid, resident))
            await asyncio.sleep(EVERY)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return by worker the early and the late median, MB, of the process that runs at the end."""
        found = {}
        for name, samples in self.samples.items():
            last = samples[-1][1]
            own = [resident for _, pid, resident in samples if pid == last]
            samples_after_warm_up = own[round(len(own) * WARM_UP) :]
            quarter = max(1, len(samples_after_warm_up) // 4)
            found[name] = (
                statistics.median(samples_after_warm_up[:quarter]),
                statistics.median(samples_after_warm_up[-quarter:]),
            )
        return found


def is_flat(early: float, late: float) -> bool:
    """Return whether memory did not grow, except for noise."""
    return late <= max(early * FLAT, early + SLACK)
