"""Metrics over the table: `count`, `adjust`, `measure` and `observe`; free while nobody collects them."""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final

from poise.telemetry.semconv import Counter, Gauge, Histogram, UpDownCounter

Attributes = Mapping[str, str | int | float | bool]
Observation = tuple[float, Attributes]
Measure = Callable[[float, Attributes | None], None]
Series = tuple[tuple[str, str | int | float | bool], ...]

MAX_SERIES: Final = 2_000
"""Combinations of attributes that one instrument keeps apart; the rest share one, as in OpenTelemetry's SDK."""
OVERFLOW: Final[Series] = (("otel.metric.overflow", True),)


class Recorder:
    """What is counted and measured while one `Telemetry` is in force.

    Sums are kept here and read when metrics are collected: adding to a counter of OpenTelemetry's SDK takes 8 µs, here
    it takes less than one, and a message is counted several times. Histograms are the SDK's.

    Args:
        sums: The counters and up-down counters to keep.
        measures: How each histogram is recorded.
    """

    def __init__(self, sums: Iterable[Counter | UpDownCounter], measures: Mapping[Histogram, Measure]) -> None:
        self.measures = measures
        self._sums: dict[Counter | UpDownCounter, dict[Series, float]] = {instrument: {} for instrument in sums}
        self._lock = Lock()

    def add(self, instrument: Counter | UpDownCounter, amount: float, attributes: Attributes | None) -> None:
        """Add to a sum; from any thread."""
        series = tuple(attributes.items()) if attributes else ()
        sums = self._sums[instrument]
        with self._lock:
            if series not in sums and len(sums) >= MAX_SERIES:
                series = OVERFLOW
            sums[series] = sums.get(series, 0) + amount

    def sums(self, instrument: Counter | UpDownCounter) -> list[Observation]:
        """The sums of an instrument by their attributes, whatever order these were given in."""
        with self._lock:
            found = list(self._sums[instrument].items())
        merged: dict[frozenset[tuple[str, str | int | float | bool]], float] = {}
        for series, amount in found:
            key = frozenset(series)
            merged[key] = merged.get(key, 0) + amount
        return [(amount, dict(key)) for key, amount in merged.items()]


_recorders: list[Recorder] = []
_observed: dict[Gauge, list[Callable[[], float | Iterable[Observation]]]] = {}


def count(instrument: Counter, amount: float = 1, attributes: Attributes | None = None) -> None:
    """Add to a counter."""
    if _recorders:
        _recorders[-1].add(instrument, amount, attributes)


def adjust(instrument: UpDownCounter, amount: float, attributes: Attributes | None = None) -> None:
    """Move an up-down counter by a signed amount."""
    if _recorders:
        _recorders[-1].add(instrument, amount, attributes)


def measure(instrument: Histogram, value: float, attributes: Attributes | None = None) -> None:
    """Put a value, in the instrument's unit, into a histogram."""
    if _recorders:
        _recorders[-1].measures[instrument](value, attributes)


def observe(instrument: Gauge, read: Callable[[], float | Iterable[Observation]]) -> Callable[[], None]:
    """Have a gauge read whenever metrics are collected (from another thread: read what is safe to read).

    Args:
        instrument: A gauge of the table.
        read: Gives the present value, or several with their attributes.

    Returns:
        Call it to have the gauge read no more.
    """
    reads = _observed.setdefault(instrument, [])
    reads.append(read)
    return lambda: reads.remove(read)


def observations(instrument: Gauge) -> list[Observation]:
    """What a gauge reads now, from each that has it read."""
    found: list[Observation] = []
    for read in tuple(_observed.get(instrument, ())):
        value = read()
        if isinstance(value, int | float):
            found.append((value, {}))
        else:
            found.extend(value)
    return found


def activate(recorder: Recorder) -> None:
    """Record here from now on."""
    _recorders.append(recorder)


def deactivate(recorder: Recorder) -> None:
    """Stop recording here; the recorder before it is used again."""
    if recorder in _recorders:
        _recorders.remove(recorder)
