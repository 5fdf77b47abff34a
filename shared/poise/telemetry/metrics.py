"""Metrics over the table: `count`, `measure`, `adjust` and `observe`; free while nobody collects them."""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.util.types import AttributeValue

from poise.telemetry.table import Counter, Gauge, Histogram, Instrument, UpDown

Attributes = Mapping[str, AttributeValue]
Observation = tuple[float, Attributes]
Record = Callable[[float, Attributes | None], None]

_collectors: list[Mapping[Instrument, Record]] = []
_observed: dict[Gauge, list[Callable[[], float | Iterable[Observation]]]] = {}


def count(instrument: Counter, amount: float = 1, attributes: Attributes | None = None) -> None:
    """Add to a counter."""
    if _collectors:
        _collectors[-1][instrument](amount, attributes)


def measure(instrument: Histogram, value: float, attributes: Attributes | None = None) -> None:
    """Put a value, in the instrument's unit, into a histogram."""
    if _collectors:
        _collectors[-1][instrument](value, attributes)


def adjust(instrument: UpDown, amount: float, attributes: Attributes | None = None) -> None:
    """Move an up-down counter by a signed amount."""
    if _collectors:
        _collectors[-1][instrument](amount, attributes)


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


def use(collector: Mapping[Instrument, Record]) -> None:
    """Record with these from now on."""
    _collectors.append(collector)


def leave(collector: Mapping[Instrument, Record]) -> None:
    """Stop recording with these; those before them are used again."""
    if collector in _collectors:
        _collectors.remove(collector)
