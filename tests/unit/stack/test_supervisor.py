"""The delay before a part that died is restarted."""

from itertools import pairwise

from poise.stack.supervisor import INITIAL_BACKOFF, MAX_BACKOFF, backoff


def test_backoff_doubles_from_half_a_second_to_half_a_minute() -> None:
    waits = [backoff(deaths) for deaths in range(12)]

    assert waits[0] == INITIAL_BACKOFF == 0.5
    assert waits[-1] == MAX_BACKOFF == 30.0
    assert all(later == min(2 * earlier, MAX_BACKOFF) for earlier, later in pairwise(waits))


def test_backoff_stays_at_its_maximum_after_a_thousand_deaths() -> None:
    assert backoff(1_000) == MAX_BACKOFF
