"""The draw of a variant: random over runs, repeatable for a replay, and unpredictable without the secret."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    """What the draw needs of a variant."""

    @property
    def name(self) -> str:
        """Its name; no part of the draw, so that renaming changes no draw."""

    @property
    def weight(self) -> float:
        """Its share among all weights, zero or more."""


VariantT = TypeVar("VariantT", bound=Weighted)


@dataclass(frozen=True, slots=True)
class Choice(Generic[VariantT]):
    """The variant that was drawn, and its probability."""

    variant: VariantT
    probability: float


def uniform(secret: bytes, *names: str) -> float:
    """Return a number uniform in [0, 1): an HMAC (SHA-256) of the names, unpredictable without the secret."""
    digest = hmac.digest(secret, "\x00".join(names).encode(), "sha256")
    return int.from_bytes(digest[:8]) / 2**64


def draw(variants: Sequence[VariantT], *, run: str, policy: str, version: int, secret: bytes) -> Choice[VariantT]:
    """Draw a variant by its weight.

    The draw is an HMAC of run and policy version (inverse-transform sampling), so a replayed run draws the same, and a
    new policy version draws again. A client may know or even choose its run id: without the secret it can neither
    predict nor influence its variant.

    Args:
        variants: The variants that may be drawn.
        run: The run id.
        policy: The policy's name.
        version: Its version.
        secret: The secret of the mesh.

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
    return Choice(drawable[-1], drawable[-1].weight / total)  # rounding left a remainder
