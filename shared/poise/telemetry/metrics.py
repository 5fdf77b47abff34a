"""Recording of the metrics in the table: `count`, `adjust`, `measure` and `observe`. Free if no recorder is active."""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final

from poise.telemetry.semconv import Counter, Gauge, Histogram, UpDownCounter

Attributes = Mapping[str, str | int | float | bool]
Measurement = tuple[float, Attributes]
RecordValue = Callable[[float, Attributes | None], None]
Series = tuple[tuple[str, str | int | float | bool], ...]

MAX_SERIES: Final = 2_000
"""Attribute combinations of one instrument; beyond it, all others share one, as in OpenTelemetry's SDK."""
OVERFLOW: Final[Series] = (("otel.metric.overflow", True),)


class Recorder:
    """Records metrics while a `Telemetry` is active.

    The sums are held here and read when metrics are collected: adding to a counter of OpenTelemetry's SDK takes 8 µs,
    here less than one, and a message is counted several times. Histograms are the SDK's.

    Args:
        sums: The counters and up-down counters.
        measures: The function that records each histogram.
    """

    def __init__(self, sums: Iterable[Counter | UpDownCounter], measures: Mapping[Histogram, RecordValue]) -> None:
        self.measures = measures
        self._sums: dict[Counter | UpDownCounter, dict[Series, float]] = {instrument: {} for instrument in sums}
        self._lock = Lock()

    def add(self, instrument: Counter | UpDownCounter, amount: float, attributes: Attributes | None) -> None:
        """Add to a sum. Thread-safe."""
        series = tuple(attributes.items()) if attributes else ()
        sums = self._sums[instrument]
        with self._lock:
            if series not in sums and len(sums) >= MAX_SERIES:
                series = OVERFLOW
            sums[series] = sums.get(series, 0) + amount

    def sums(self, instrument: Counter | UpDownCounter) -> list[Measurement]:
        """Return the sums of an instrument by attributes, regardless of their order."""
        with self._lock:
            found = list(self._sums[instrument].items())
        merged: dict[frozenset[tuple[str, str | int | float | bool]], float] = {}
        for series, amount in found:
            key = frozenset(series)
            merged[key] = merged.get(key, 0) + amount
        return [(amount, dict(key)) for key, amount in merged.items()]


_recorders: list[Recorder] = []
_observed: dict[Gauge, list[Callable[[], float | Iterable[Measurement]]]] = {}


def count(instrument: Counter, amount: float = 1, attributes: Attributes | None = None) -> None:
    """Add to a counter."""
    if _recorders:
        _recorders[-1].add(instrument, amount, attributes)


def adjust(instrument: UpDownCounter, amount: float, attributes: Attributes | None = None) -> None:
    """Add a signed amount to an up-down counter."""
    if _recorders:
        _recorders[-1].add(instrument, amount, attributes)


def measure(instrument: Histogram, value: float, attributes: Attributes | None = None) -> None:
    """Record a value, in the instrument's unit, in a histogram."""
    if _recorders:
        _recorders[-1].measures[instrument](value, attributes)


def observe(instrument: Gauge, read: Callable[[], float | Iterable[Measurement]]) -> Callable[[], None]:
    """Register a callback that is called whenever metrics are collected.

    Args:
        instrument: A gauge of the table.
        read: Returns the current value, or several with their attributes. It is called from another thread.

    Returns:
        A function that removes the callback.
    """
    reads = _observed.setdefault(instrument, [])
    reads.append(read)
    return lambda: reads.remove(read)


def observations(instrument: Gauge) -> list[Measurement]:
    """Return the current values of a gauge from all its callbacks."""
    found: list[Measurement] = []
    for read in tuple(_observed.get(instrument, ())):
        value = read()
        if isinstance(value, int | float):
            found.append((value, {}))
        else:
            found.extend(value)
    return found


def activate(recorder: Recorder) -> None:
    """Record with this recorder from now on."""
    _recorders.append(recorder)


def deactivate(recorder: Recorder) -> None:
    """Stop recording with this recorder; the previous one becomes active again."""
    if recorder in _recorders:
        _recorders.remove(recorder)
