"""The act's deployment: two variants of the answer workflow, one of them behind a model proxy that causes the fault."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from poise.contracts.policy import Limits, PolicySpec
from poise.errors import SetupError
from poise.stack.plan import BACKENDS_VARIABLE
from poise.stack.stack import Stack
from poise_labs.balance.model_proxy import ModelProxy

STEADY: Final = "steady"
FAULTY: Final = "second"
"""The variant whose backend gets the fault."""
FAULT_SHARE: Final = 0.7
"""The share of the second variant's prompts that lose their passages during the fault."""
WRITER: Final[Mapping[str, Any]] = {"prompt_sentences": 1, "max_tokens": 48}
"""Both variants use the same small model with the same settings, so they differ in the fault alone. Answers are short
because an act has hundreds of them."""
LADDER: Final[Mapping[str, Any]] = {"max_failovers": 0}
"""No other variant replaces a rejected answer: the act has two cores, and readers get the passage's own sentence."""
LIMITS: Final = Limits(
    min_share=0.2, step=0.35, cooldown_answers=10, mean_answers_between_false_alarms=10_000, margin=0.2
)
"""The margin is smaller than the fault's effect, 0.3 of quality: during the fault no recovery can be found."""


def policy_spec(name: str, *, limits: Limits = LIMITS) -> PolicySpec:
    """Return the act's policy: each variant gets half of the asks."""
    return PolicySpec(name=name, weights={STEADY: 0.5, FAULTY: 0.5}, limits=limits)


def worker_environment(
    policy: str, backends: Mapping[str, Mapping[str, Any]], proxy_url: str
) -> Mapping[str, Mapping[str, str]]:
    """Return the environment variables of the act, by tier.

    Args:
        policy: The policy's name.
        backends: The stack's model servers, by backend name.
        proxy_url: The base address of the proxy in front of the default one.
    """
    variants = [{"name": STEADY, **WRITER}, {"name": FAULTY, "backend": FAULTY, **WRITER}]
    return {
        "inference": {BACKENDS_VARIABLE: json.dumps({**backends, FAULTY: {**backends["default"], "url": proxy_url}})},
        "orchestration": {
            "POISE_ORCHESTRATION_POLICY": policy,
            "POISE_ORCHESTRATION_VARIANTS": json.dumps(variants),
            "POISE_ORCHESTRATION_LADDER": json.dumps(LADDER),
        },
    }


@asynccontextmanager
async def deployed(stack: Stack, policy: str) -> AsyncIterator[ModelProxy]:
    """Restart the stack's inference and orchestration workers with the act's variants, without a fault.

    When the context ends, they are restarted with the environment that they had before: the proxy is closed then.

    Yields:
        The proxy between the second variant's backend and the model server.

    Raises:
        SetupError: The stack has no default model server, or a worker does not start.
    """
    if "default" not in stack.backends:
        raise SetupError("the balance act needs a default model server: run it on a stack with an inference worker")
    async with ModelProxy(stack.backends["default"]["url"]) as proxy:
        environment = worker_environment(policy, stack.backends, proxy.url)
        previous = {worker.name: worker.overrides for worker in stack.workers if worker.tier in environment}
        try:
            for worker in stack.workers:
                if worker.tier in environment:
                    await stack.restart_part(worker.name, environment=environment[worker.tier])
            yield proxy
        finally:
            for name, overrides in previous.items():
                await stack.restart_part(name, environment=overrides)
