"""Weights: how the shares of variants move within the limits that a person set. No clock, no I/O."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Final

from poise.contracts.ask import NAME_PATTERN
from poise.contracts.policy import Limits, PolicySpec

MAX_VARIANTS: Final = 32
"""Maximum number of variants of a policy: the state of all of them must fit into one record."""
MAX_SPEC_BYTES: Final = 8_192
"""Maximum size of a spec in bytes: that record also has many versions of it."""
TOLERANCE: Final = 1e-9
"""Shares that differ by less are equal, except for rounding."""


def normalize(weights: Mapping[str, float], limits: Limits) -> dict[str, float]:
    """Return the shares that weights give: they sum to 1, and each that is not 0 is at least `min_share`.

    Raises:
        ValueError: No weight is above zero, or there are too many variants for `min_share`.
    """
    if wrong := [name for name, weight in weights.items() if not 0 <= weight < math.inf]:
        raise ValueError(f"weights are numbers from 0 up: {', '.join(wrong)} has none")
    largest = max(weights.values(), default=0.0)
    if largest == 0:
        raise ValueError("no variant has a weight above zero")
    unassigned = {name: weight / largest for name, weight in weights.items() if weight > 0}  # so that no sum overflows
    if limits.min_share * len(unassigned) > 1 + TOLERANCE:
        raise ValueError(
            f"{len(unassigned)} variants cannot each keep {limits.min_share:g} of the draws: min_share is at most "
            f"{1 / len(unassigned):.4g}"
        )
    assigned = dict.fromkeys(weights, 0.0)
    to_assign = 1.0
    while True:  # each round raises the variants below the floor to it, and distributes the rest
        total = math.fsum(unassigned.values())
        below_floor = [name for name, weight in unassigned.items() if to_assign * weight / total < limits.min_share]
        if not below_floor:
            break
        for name in below_floor:
            assigned[name] = limits.min_share
            del unassigned[name]
        to_assign -= limits.min_share * len(below_floor)
        if not unassigned:
            return _absorb_rounding(assigned, assigned)
    return _absorb_rounding(
        assigned | {name: to_assign * weight / total for name, weight in unassigned.items()}, unassigned
    )


def decrease(
    now: Mapping[str, float], variant: str, others: Collection[str], target: Mapping[str, float], limits: Limits
) -> dict[str, float]:
    """Return the weights after one step from a variant to others, in proportion to their targets.

    The weights stay the same if the variant has only `min_share`, or there are no others.
    """
    given = min(limits.step, now[variant] - limits.min_share)
    total = math.fsum(target[name] for name in others)
    if given < TOLERANCE or total <= 0:
        return dict(now)
    after = dict(now)
    after[variant] = max(limits.min_share, now[variant] - given)
    for name in others:
        after[name] += given * target[name] / total
    return _absorb_rounding(after, others)


def restore(now: Mapping[str, float], variant: str, target: Mapping[str, float], limits: Limits) -> dict[str, float]:
    """Return the weights after one step of a variant toward its target, from variants above their targets.

    All shares sum to 1, so the variants above their targets have what this one lacks. None falls below its target. The
    weights stay the same if the variant lacks nothing.
    """
    taken = min(limits.step, target[variant] - now[variant])
    spare = {name: share - target[name] for name, share in now.items() if name != variant and share > target[name]}
    total = math.fsum(spare.values())
    if taken < TOLERANCE or total <= 0:
        return dict(now)
    after = dict(now)
    after[variant] = now[variant] + taken
    for name, extra in spare.items():
        after[name] -= taken * extra / total
    after |= {name: target[name] for name, share in after.items() if abs(share - target[name]) < TOLERANCE}
    return _absorb_rounding(after, spare)


def _absorb_rounding(after: dict[str, float], among: Collection[str]) -> dict[str, float]:
    """Return the weights with the rounding remainder added to the largest of some variants."""
    largest = max(among, key=lambda name: (after[name], name))
    after[largest] += 1.0 - math.fsum(after.values())
    return after


def check_size(spec: PolicySpec) -> None:
    """Check that a spec can be stored.

    Raises:
        ValueError: The name of a variant is invalid, or the spec is too large.
    """
    if wrong := [name for name in spec.weights if not re.fullmatch(NAME_PATTERN, name)]:
        raise ValueError(f"{wrong[0]!r} can be no variant's name: letters, digits, dots, dashes and underscores")
    variants, size = len(spec.weights), len(spec.encode())
    if variants > MAX_VARIANTS or size > MAX_SPEC_BYTES:
        raise ValueError(
            f"it has {variants} variants in {size} bytes; the limits are {MAX_VARIANTS} and {MAX_SPEC_BYTES}"
        )
