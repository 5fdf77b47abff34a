"""The stage: two variants of the answer workflow on a stack of one's own, one of which can be deployed with a fault."""

import json
from collections.abc import Mapping
from typing import Any, Final

from poise.contracts.policy import Limits, PolicySpec
from poise.stack.environment_overrides import told
from poise.stack.stack import Stack

STEADY: Final = "steady"
SECOND: Final = "second"
WITHOUT_PASSAGES: Final = 0.7
"""The fault: the share of prompts that lack their passages."""
WRITER: Final[Mapping[str, Any]] = {"sentences": 1, "max_tokens": 48}
"""Both are the same small model with the same settings: what differs is the fault. Short, for there are hundreds."""
LADDER: Final[Mapping[str, Any]] = {"failovers": 0}
"""Nobody is asked in a bad answer's place: the act has two cores, and readers get the passage's own sentence."""
LIMITS: Final = Limits(explore=0.2, step=0.35, pause=10, quiet_answers=10_000, margin=0.2)
"""The margin is less than the fault does, 0.3 of quality: while it lasts, nothing can pass for recovered."""
TIER: Final = "orchestration"


def policy_spec(name: str, *, limits: Limits = LIMITS) -> PolicySpec:
    """The policy of the act: half of the asks for each."""
    return PolicySpec(name=name, weights={STEADY: 0.5, SECOND: 0.5}, limits=limits)


def worker_environment(policy: str, without_passages: float) -> Mapping[str, str]:
    """What orchestration workers are told.

    Args:
        policy: The policy's name.
        without_passages: The share of prompts of the second variant that lack their passages.
    """
    fault = {"without_passages": without_passages} if without_passages else {}
    variants = [{"name": STEADY, **WRITER}, {"name": SECOND, **WRITER, **fault}]
    return {
        "POISE_ORCHESTRATION_POLICY": policy,
        "POISE_ORCHESTRATION_VARIANTS": json.dumps(variants),
        "POISE_ORCHESTRATION_LADDER": json.dumps(LADDER),
    }


async def deploy(stack: Stack, policy: str, without_passages: float = 0.0) -> None:
    """Start the orchestration workers anew, with these variants. Asks on their way are begun again, and lose nothing.

    Raises:
        SetupError: One does not start.
    """
    with told(worker_environment(policy, without_passages)):
        for worker in stack.workers:
            if worker.tier == TIER:
                await stack.stop_part(worker.name)
                await stack.start_part(worker.name)
