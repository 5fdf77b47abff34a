"""Options: what a stack is to be made of."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from poise.config.toml_file import read_toml
from poise.errors import SetupError
from poise.settings import CONFIG_VARIABLE
from poise.text.error_text import error_message

TIERS: Final = ("gateway", "orchestration", "retrieval", "inference", "integration", "evaluation")
"""The tiers that a stack has workers of, in the order in which they are shown."""

ONE_OF_EACH: Final = MappingProxyType(dict.fromkeys(TIERS, 1))

INTEGRATIONS_VARIABLE: Final = "POISE_INTEGRATION_INTEGRATIONS"
"""The setting of the integration tier that names the APIs; it has no worker of its own accord where there are none."""

DEFAULT_GATEWAY_PORT: Final = 8080


def default_workers() -> dict[str, int]:
    """Return one worker for each tier; for the integration tier only if an integration is configured.

    Raises:
        SetupError: The settings file cannot be read.
    """
    return {**ONE_OF_EACH, "integration": int(_integrations_configured())}


def _integrations_configured() -> bool:
    if any(name.upper().startswith(INTEGRATIONS_VARIABLE) for name in os.environ):
        return True
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return False
    try:
        return bool(read_toml(Path(path)).get("integration", {}).get("integrations"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{CONFIG_VARIABLE} names {path}, which cannot be read: {error_message(error)}") from error


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports; 0 = any free one."""

    kafka: int = 0
    redis: int = 0
    model: int = 0
    gateway: int | None = None
    """None = 8080 if it is free, else any."""


@dataclass(frozen=True, slots=True)
class ExternalServices:
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
    workers: Mapping[str, int] = field(default_factory=default_workers)
    """Workers by tier; a tier that is absent has none."""
    ports: Ports = Ports()
    external: ExternalServices = ExternalServices()
    model: Path | None = None
    """A GGUF file for the embedded model server; None = the small model."""
    verify: bool = False
    """Trust nothing in the cache folder."""
    custom_tiers: Mapping[str, int] = field(default_factory=dict)
    """Workers of custom tiers, by file: `FILE.py` or `FILE.py:name`."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables for the workers. They override those of this process."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            SetupError: A tier is unknown, or options contradict one another.
        """
        for tier in self.workers:
            if tier not in TIERS:
                raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(TIERS)}")
        names = [custom_tier_name(where) for where in self.custom_tiers]
        for name in names:
            if name in TIERS or names.count(name) > 1:
                raise SetupError(f"--tier: two tiers would be called {name}, by the name of the file: rename it")
        if self.external.model_url and not self.external.model_name:
            raise SetupError("--model-url needs --model-name: the model's name as that server knows it")
        if self.external.model_url and self.model:
            raise SetupError("--model is served by the stack's own server: leave out --model or --model-url")


def parse_workers(text: str) -> dict[str, int]:
    """Read `inference=3,retrieval=2`; tiers that are not named have as many as usual.

    Raises:
        SetupError: It is written otherwise, or a tier is unknown.
    """
    workers = default_workers()
    for part in filter(None, (part.strip() for part in text.split(","))):
        tier, _, count = part.partition("=")
        if not count.isdecimal():
            raise SetupError(f"--workers {text!r} is not understood at {part!r}: write inference=3,retrieval=2")
        if tier not in workers:
            raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(TIERS)}")
        workers[tier] = int(count)
    return workers


def parse_custom_tiers(given: Iterable[str]) -> dict[str, int]:
    """Read `FILE.py`, `FILE.py=2` or `FILE.py:name=2`; one worker where no number is given.

    Raises:
        SetupError: It is written otherwise, or there is no such file.
    """
    workers: dict[str, int] = {}
    for text in given:
        where, _, count = text.rpartition("=") if "=" in text else (text, "", "1")
        if not count.isdecimal():
            raise SetupError(f"--tier {text!r} is not understood: write FILE.py=2")
        if not _file_of(where).is_file():
            raise SetupError(f"--tier {text!r}: there is no file {_file_of(where)}")
        custom_tier_name(where)
        workers[where] = int(count)
    return workers


def custom_tier_name(where: str) -> str:
    """What an own tier's workers are called: as its file.

    Raises:
        SetupError: The file's name cannot be a process's name.
    """
    file = _file_of(where)
    if file.suffix != ".py" or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", file.stem):
        raise SetupError(f"--tier {where!r}: give a Python file whose name has letters, digits, - and _ alone")
    return file.stem


def _file_of(where: str) -> Path:
    file, colon, _ = where.rpartition(".py:")
    return Path(f"{file}.py" if colon else where)
