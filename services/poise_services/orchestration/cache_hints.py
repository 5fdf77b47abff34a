"""Cache hints: what the cache look-up passes on if it finds no answer to send."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts import Citation, Draw


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """A stored answer, stale or not, for the rung `stale`."""

    text: str
    citations: tuple[Citation, ...]
    variant: str | None
    epoch: str | None
    age: float
    """Seconds since it was produced."""
    reason: str
    """Why it is used."""


@dataclass(frozen=True, slots=True)
class CacheHints:
    """What a cache look-up without a hit passes to the production of the answer."""

    stale_fallback: Callable[[], Awaitable[EarlierAnswer | None]] | None = None
    """Loads the earlier answer, if any; None = no answers are stored."""
    skip_model_reason: str | None = None
    """Why no model is to be asked; None = ask one."""
    draw: Draw | None = None
    """The variant drawn for the look-up; None = there was none."""


NO_CACHE: Final = CacheHints()
"""The hints without a cache."""
