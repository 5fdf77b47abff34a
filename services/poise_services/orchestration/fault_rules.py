"""Routing between variants: what a fault says of one, who is asked next, and how long each may take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from poise.contracts import Fault
from poise.resilience.breaker import State
from poise_services.orchestration.settings import Variant

MIN_TELLING_BUDGET: Final = 2.0
"""Seconds: a variant that was given less and did not finish is not held to have failed. Else askers with short
deadlines would take a slow model, which is well, away from all others."""
BreakerSignal = Literal["answered", "failed", "rest", "nothing"]
"""What a fault says of the variant: it answers; it fails; it asks to be left alone; nothing."""
NextCandidates = Literal["anyone", "elsewhere", "larger", "nobody"]
"""Who is worth asking next: anyone; variants of another backend; those that take in more; nobody."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What a fault means for its variant, and for the others."""

    says: BreakerSignal
    then: NextCandidates


FAULT_RULES: Final[Mapping[str, FaultRule]] = MappingProxyType(
    {
        "urn:poise:unavailable": FaultRule("failed", "elsewhere"),
        "urn:poise:temporary": FaultRule("failed", "elsewhere"),
        "urn:poise:deadline-exceeded": FaultRule("failed", "anyone"),  # one that writes less may be quicker
        "urn:poise:not-taken": FaultRule("nothing", "anyone"),  # Kafka did not take it: nobody was asked
        "urn:poise:rate-limited": FaultRule("rest", "elsewhere"),
        "urn:poise:context-too-long": FaultRule("answered", "larger"),
        "urn:poise:content-filtered": FaultRule("answered", "nobody"),  # what one refuses is not shopped around
        "urn:poise:invalid": FaultRule("answered", "elsewhere"),
        "urn:poise:failed": FaultRule("answered", "elsewhere"),  # the backend refused it: 400, 401, 404
        "urn:poise:cancelled": FaultRule("nothing", "nobody"),
    }
)
"""By the fault's type. Inference has tried one backend again as often as it is worth; here variants are changed."""

UNKNOWN_FAULT: Final = FaultRule("failed", "elsewhere")
"""Any other fault: a bug."""
CHECK_FAILED: Final = FaultRule("answered", "anyone")
"""It answered, and what it wrote did not pass its check."""


def rule_for(fault_type: str) -> FaultRule:
    """What a fault means."""
    return FAULT_RULES.get(fault_type, UNKNOWN_FAULT)


def signal_of(fault: Fault, given: float) -> BreakerSignal:
    """What a fault says of the variant that had so many seconds.

    A rate limit without a word on how long counts as a failure among others.
    """
    found = rule_for(fault.type).says
    return "nothing" if fault.type == "urn:poise:deadline-exceeded" and given < MIN_TELLING_BUDGET else found


@dataclass(frozen=True, slots=True)
class TriedVariant:
    """A variant that brought nothing."""

    variant: Variant
    then: NextCandidates
    """Who is worth asking after it."""


def candidates(
    variants: Sequence[Variant], tried: Sequence[TriedVariant], states: Mapping[str, State] = MappingProxyType({})
) -> list[Variant]:
    """The variants worth asking, the best first: healthy ones, then by weight, then by name.

    Args:
        variants: All there are. One of weight 0 is never drawn, and stands by for this.
        tried: Those that were asked already.
        states: How each one's breaker stands; one that is not named is healthy.
    """
    worth = [one for one in variants if all(_worth(one, other) for other in tried)]
    return sorted(worth, key=lambda one: (states.get(one.name, "closed") != "closed", -one.weight, one.name))


def _worth(variant: Variant, after: TriedVariant) -> bool:
    match after.then:
        case "nobody":
            return False
        case "elsewhere":
            return variant.backend != after.variant.backend
        case "larger":
            return (variant.context or 0) > (after.variant.context or 0)
    return variant.name != after.variant.name


def fair_share(left: float, others: int) -> float:
    """The seconds that a step may take of those left, so that as many others can have as long after it.

    How long each takes is not known; so equal shares, which leave most to the one that gets least (max-min fairness).
    What a step does not use is left to those after it.
    """
    return left / (1 + max(0, others))


class Route(BaseModel):
    """Who is asked. A value, so that a run that is begun again after a crash takes the same way."""

    model_config = ConfigDict(frozen=True)

    variant: str | None = None
    """None = nobody."""
    left_alone: tuple[str, ...] = ()
    """Those that were worth asking before it and are left alone, each in words, with its last error."""
    others: int = 0
    """How many might still be asked after it."""
    elsewhere: bool = False
    """Whether one of those is of another backend."""
    closed_book: bool = False
    """Whether the passages are left out of its prompt (`without_passages`)."""
