"""Fault rules: what a fault means for its variant's breaker, and which variants are worth asking next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from poise.contracts import Fault
from poise.resilience.breaker import BreakerState
from poise_services.orchestration.settings import Variant

MIN_CONCLUSIVE_BUDGET: Final = 2.0
"""Seconds. A timeout of a variant that had less time is not counted as its failure. Otherwise asks with short deadlines
would open the breaker of a slow but healthy model for all other asks."""
BreakerSignal = Literal["answered", "failed", "open_as_asked", "inconclusive"]
"""What a fault means for the variant's breaker: a success; a failure; open for as long as the backend asks; nothing."""
NextCandidates = Literal["any", "other_backend", "larger_context", "none"]
"""Which variants are worth asking next: any; those of another backend; those with a larger context; none."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What a fault means for its variant, and for the others."""

    breaker_signal: BreakerSignal
    next_candidates: NextCandidates


FAULT_RULES: Final[Mapping[str, FaultRule]] = MappingProxyType(
    {
        "urn:poise:unavailable": FaultRule("failed", "other_backend"),
        "urn:poise:temporary": FaultRule("failed", "other_backend"),
        "urn:poise:deadline-exceeded": FaultRule("failed", "any"),  # a variant that writes less may be faster
        "urn:poise:not-taken": FaultRule("inconclusive", "any"),  # Kafka did not accept it: no variant was asked
        "urn:poise:rate-limited": FaultRule("open_as_asked", "other_backend"),
        "urn:poise:context-too-long": FaultRule("answered", "larger_context"),
        "urn:poise:content-filtered": FaultRule("answered", "none"),  # do not try to get around a content filter
        "urn:poise:invalid": FaultRule("answered", "other_backend"),
        "urn:poise:failed": FaultRule("answered", "other_backend"),  # the backend rejected the request: 400, 401, 404
        "urn:poise:cancelled": FaultRule("inconclusive", "none"),
    }
)
"""By fault type. Inference has already retried the backend as often as is useful; here another variant is chosen."""

UNKNOWN_FAULT: Final = FaultRule("failed", "other_backend")
"""Any other fault type: a bug."""
CHECK_FAILED: Final = FaultRule("answered", "any")
"""The variant answered, and its answer did not pass the check."""


def rule_for(fault_type: str) -> FaultRule:
    """Return the rule for a fault type."""
    return FAULT_RULES.get(fault_type, UNKNOWN_FAULT)


def signal_of(fault: Fault, budget: float) -> BreakerSignal:
    """Return what a fault means for the breaker of a variant that had `budget` seconds.

    A rate limit without a retry-after counts as an ordinary failure.
    """
    if fault.type == "urn:poise:deadline-exceeded" and budget < MIN_CONCLUSIVE_BUDGET:
        return "inconclusive"
    return rule_for(fault.type).breaker_signal


@dataclass(frozen=True, slots=True)
class TriedVariant:
    """A variant that was asked and did not provide the answer."""

    variant: Variant
    next_candidates: NextCandidates


def candidates(
    variants: Sequence[Variant],
    tried: Sequence[TriedVariant],
    states: Mapping[str, BreakerState] = MappingProxyType({}),
) -> list[Variant]:
    """Return the variants worth asking, best first: by health, then by weight, then by name.

    Args:
        variants: All variants. One of weight 0 is never drawn, and is on standby for this.
        tried: The variants that were asked already.
        states: The state of each variant's breaker; a variant without one is healthy.
    """
    worth_asking = [variant for variant in variants if all(_may_help(variant, failed) for failed in tried)]

    def rank(variant: Variant) -> tuple[bool, float, str]:
        unhealthy = states.get(variant.name, "closed") != "closed"
        return unhealthy, -variant.weight, variant.name

    return sorted(worth_asking, key=rank)


def _may_help(variant: Variant, tried: TriedVariant) -> bool:
    """Return whether a variant may answer although another one did not."""
    match tried.next_candidates:
        case "none":
            return False
        case "other_backend":
            return variant.backend != tried.variant.backend
        case "larger_context":
            return (variant.context_window or 0) > (tried.variant.context_window or 0)
    return variant.name != tried.variant.name
