"""Aid: what the answer cache has to say to a run that works its answer out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from poise.contracts import Citation, Draw


@dataclass(frozen=True, slots=True)
class StaleAnswer:
    """A kept answer that is not fresh any more."""

    text: str
    citations: tuple[Citation, ...]
    variant: str | None
    epoch: str | None
    age: float
    """Seconds since it was worked out."""
    reason: str
    """Why it is stale, in words."""


@dataclass(frozen=True, slots=True)
class CacheHints:
    """What the cache has to say to a run that works its answer out."""

    stale_fallback: Callable[[], Awaitable[StaleAnswer | None]] | None = None
    """The kept answer that may stand in, if there is one, as it stands now; None = no answers are kept."""
    skip_model_reason: str | None = None
    """Why no model is to be asked; None = ask one."""
    draw: Draw | None = None
    """The variant that was drawn when the cache was asked; None = it was not asked."""


NO_CACHE: Final = CacheHints()
"""The hints of a worker without a cache."""
