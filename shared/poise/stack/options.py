"""Options: what a stack is to be made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from poise.errors import SetupError

TIERS: Final = ("gateway", "orchestration", "retrieval", "inference", "evaluation")
"""The tiers that a stack has workers of, in the order in which they are shown."""

ONE_OF_EACH: Final = MappingProxyType(dict.fromkeys(TIERS, 1))

DEFAULT_GATEWAY_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports; 0 = any free one."""

    kafka: int = 0
    redis: int = 0
    model: int = 0
    gateway: int | None = None
    """None = 8080 if it is free, else any."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What runs already and is used instead of a part of ours; None = ours."""

    broker: str | None = None
    """Kafka's bootstrap servers, `host:port[,host:port…]`."""
    redis_url: str | None = None
    model_url: str | None = None
    """Base address of a server that speaks OpenAI's HTTP."""
    model_name: str | None = None
    """The model's name as that server knows it."""
    model_key_env: str | None = None
    """The environment variable that holds the key for that server."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a stack is made of, and where it keeps its things."""

    directory: Path = Path(".poise")
    """Data, logs and the state file; one stack at a time."""
    workers: Mapping[str, int] = field(default_factory=lambda: ONE_OF_EACH)
    """Workers by tier; a tier that is absent has none."""
    ports: Ports = Ports()
    existing: Existing = Existing()
    model: Path | None = None
    """A GGUF file for the embedded model server; None = the small model."""
    verify: bool = False
    """Trust nothing in the cache folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            SetupError: A tier is unknown, or options contradict one another.
        """
        for tier in self.workers:
            if tier not in TIERS:
                raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(TIERS)}")
        if self.existing.model_url and not self.existing.model_name:
            raise SetupError("--model-url needs --model-name: the model's name as that server knows it")
        if self.existing.model_url and self.model:
            raise SetupError("--model is served by the stack's own server: leave out --model or --model-url")


def parse_workers(text: str) -> dict[str, int]:
    """Read `inference=3,retrieval=2`; tiers that are not named keep one worker.

    Raises:
        SetupError: It is written otherwise, or a tier is unknown.
    """
    workers = dict(ONE_OF_EACH)
    for part in filter(None, (part.strip() for part in text.split(","))):
        tier, _, count = part.partition("=")
        if not count.isdecimal():
            raise SetupError(f"--workers {text!r} is not understood at {part!r}: write inference=3,retrieval=2")
        if tier not in workers:
            raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(TIERS)}")
        workers[tier] = int(count)
    return workers
