"""Search windows: the time windows of `poise.records` to search for the record of a run, one after another.

There is no index of runs: any process finds any retained record by reading, also after a restart. A run id made by a
gateway has the time when the run began; its record follows soon after that time. A run id made from the position of an
ask in Kafka has no time: its partition is searched backwards from the end in growing windows, because most
look-ups follow soon after the run.
"""

from dataclasses import dataclass
from typing import Final

from poise.contracts.run_id import run_started_at
from poise.contracts.topics import BATCH, DAY, HOUR
from poise.kafka.log_lookup import Window

SEARCH_BACK: Final = (600.0, 2 * HOUR, DAY)
"""Seconds back from now, one window after another; the last window is the whole log."""
USUAL_DELAY: Final = 600.0
"""Seconds after its start within which nearly every run has written its record."""
MAX_DELAY: Final = BATCH.longest + HOUR
"""Seconds after its start within which a run writes its record, if it ever does."""


@dataclass(frozen=True, slots=True)
class SearchWindows:
    """Where to look for the record of a run."""

    usual: tuple[Window, ...]
    """Where it usually is: a small part of the log."""
    rest: tuple[Window, ...]
    """Where else it may be: up to all of a partition."""


def search_windows(run: str, now: float, clock_skew: float) -> SearchWindows:
    """Return where to look for the record of a run, window by window.

    Args:
        run: The run id.
        now: Unix seconds.
        clock_skew: Seconds by which two clocks may differ.
    """
    began = run_started_at(run)
    if began is None:
        return SearchWindows((), (*(Window(now - back) for back in SEARCH_BACK), Window("beginning")))
    later = began + USUAL_DELAY
    rest = (Window(later, began + MAX_DELAY),) if later < now else ()
    return SearchWindows((Window(began - clock_skew, later),), rest)
