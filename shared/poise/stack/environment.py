"""Environment variables of child processes: no process gets the secrets of another one.

A worker gets the settings of its own tier, `POISE_<TIER>_…`. Kafka, Valkey and the model server get no tier's settings
and no connection settings.
"""

from collections.abc import Mapping
from typing import Final

from poise.stack.options import BUILT_IN_TIERS

CONNECTION_PREFIXES: Final = ("POISE_SECURITY_", "POISE_REDIS_URL")


def for_tier(tier: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a worker of a built-in or custom tier: all but those of other tiers."""
    return _without(variables, [_prefix(other) for other in BUILT_IN_TIERS if other != tier])


def for_server(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for Kafka, Valkey or the model server: all but those of tiers and connections."""
    return _without(variables, [*map(_prefix, BUILT_IN_TIERS), *CONNECTION_PREFIXES])


def _prefix(tier: str) -> str:
    return f"POISE_{tier.upper()}_"


def _without(variables: Mapping[str, str], prefixes: list[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.upper().startswith(tuple(prefixes))}
