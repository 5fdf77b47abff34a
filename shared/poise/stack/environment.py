"""Environment: what a child process is given of ours. The secrets of one tier are no business of the others.

A tier reads its own settings, `POISE_<TIER>_…`. Kafka, Valkey and the model server read none, nor how to reach somebody
else's broker.
"""

from collections.abc import Mapping
from typing import Final

from poise.stack.options import TIERS

CONNECTION_PREFIXES: Final = ("POISE_SECURITY_", "POISE_REDIS_URL")


def for_tier(tier: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for a worker of a tier, be it one of Poise's or not: without those of other tiers."""
    return _without(variables, [_prefix(other) for other in TIERS if other != tier])


def for_server(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for what the workers stand on: without those of any tier, and of connections."""
    return _without(variables, [*map(_prefix, TIERS), *CONNECTION_PREFIXES])


def _prefix(tier: str) -> str:
    return f"POISE_{tier.upper()}_"


def _without(variables: Mapping[str, str], prefixes: list[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.upper().startswith(tuple(prefixes))}
