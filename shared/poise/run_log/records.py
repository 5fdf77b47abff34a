"""Run records: that of one run, found in the log by the run's id.

No table of runs is kept for it: any process finds the record of any run that is kept, after a restart too. The id of a
run that came by a gateway says when the run began, and its record stands a few records behind that time. An id made of
an ask's place in Kafka says nothing: the partition is searched from its end backwards, by windows that grow, for most
who ask do so soon.
"""

from dataclasses import dataclass
from typing import Final

from poise.contracts.run_id import started_at
from poise.contracts.topics import BATCH, DAY, HOUR
from poise.kafka.log_lookup import Window

SEARCH_BACK: Final = (600.0, 2 * HOUR, DAY)
"""Seconds back from now, one after another; then all there is."""
USUAL_DELAY: Final = 600.0
"""Seconds after its beginning within which nearly every run has left its record."""
MAX_DELAY: Final = BATCH.longest + HOUR
"""Seconds after its beginning within which a run leaves its record, if it does."""


@dataclass(frozen=True, slots=True)
class SearchWindows:
    """Where to look for a run's record."""

    near: tuple[Window, ...]
    """Where it is if all is as usual: a small part of the log."""
    far: tuple[Window, ...]
    """Where it may be beside: up to all of a partition."""


def search_windows(run: str, now: float, skew: float) -> SearchWindows:
    """Where to look for the record of a run, window by window.

    Args:
        run: The run's id.
        now: Unix seconds.
        skew: Seconds by which two clocks may differ.
    """
    began = started_at(run)
    if began is None:
        return SearchWindows((), (*(Window(now - back) for back in SEARCH_BACK), Window("beginning")))
    later = began + USUAL_DELAY
    far = (Window(later, began + MAX_DELAY),) if later < now else ()
    return SearchWindows((Window(began - skew, later),), far)
