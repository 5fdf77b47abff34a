"""Drawing a variant: random over runs, the same whenever one run is replayed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    """A variant as the draw sees it."""

    @property
    def name(self) -> str:
        """What names it; part of no draw, so that renaming moves nothing."""

    @property
    def weight(self) -> float:
        """Its share among all weights, zero or more."""


VariantT = TypeVar("VariantT", bound=Weighted)


@dataclass(frozen=True, slots=True)
class Choice(Generic[VariantT]):
    """The variant that was drawn, and how likely that was."""

    variant: VariantT
    probability: float


def draw(variants: Sequence[VariantT], *, run: str, policy: str, version: int) -> Choice[VariantT]:
    """Draw a variant by its weight.

    The draw is a hash of run and policy version (inverse-transform sampling of a uniform number made of SHA-256), so a
    replayed run draws the same, and a new policy version draws anew.

    Raises:
        ValueError: No variant has a weight above zero.
    """
    total = sum(variant.weight for variant in variants)
    if total <= 0:
        raise ValueError(f"policy {policy}: no variant has a weight above zero")
    digest = hashlib.sha256(f"{policy}\x00{version}\x00{run}".encode()).digest()
    mark = int.from_bytes(digest[:8]) / 2**64 * total
    drawable = [variant for variant in variants if variant.weight > 0]
    for variant in drawable:
        mark -= variant.weight
        if mark < 0:
            return Choice(variant, variant.weight / total)
    return Choice(drawable[-1], drawable[-1].weight / total)  # rounding left a sliver at the end
