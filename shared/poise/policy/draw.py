"""Drawing a variant: random over runs, the same whenever one run is replayed, and known to nobody before."""

import hmac
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


def uniform(secret: bytes, *names: str) -> float:
    """A number drawn uniformly from [0, 1): an HMAC (SHA-256) of the names, which cannot be told without the secret."""
    digest = hmac.digest(secret, "\x00".join(names).encode(), "sha256")
    return int.from_bytes(digest[:8]) / 2**64


def draw(variants: Sequence[VariantT], *, run: str, policy: str, version: int, secret: bytes) -> Choice[VariantT]:
    """Draw a variant by its weight.

    The draw is an HMAC of run and policy version (inverse-transform sampling), so a replayed run draws the same, and a
    new policy version draws anew. A client may know its run's id, or even choose it: without the secret it can neither
    tell nor steer which variant it will be given.

    Args:
        variants: Those that may be drawn.
        run: The run's id.
        policy: The policy's name.
        version: Its version.
        secret: The mesh's.

    Raises:
        ValueError: No variant has a weight above zero.
    """
    total = sum(variant.weight for variant in variants)
    if total <= 0:
        raise ValueError(f"policy {policy}: no variant has a weight above zero")
    mark = uniform(secret, policy, str(version), run) * total
    drawable = [variant for variant in variants if variant.weight > 0]
    for variant in drawable:
        mark -= variant.weight
        if mark < 0:
            return Choice(variant, variant.weight / total)
    return Choice(drawable[-1], drawable[-1].weight / total)  # rounding left a sliver at the end
