"""The options of a stack."""

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

BUILT_IN_TIERS: Final = ("gateway", "orchestration", "retrieval", "inference", "integration", "evaluation")
"""The built-in tiers, in the order in which they are shown."""

ONE_WORKER_PER_TIER: Final = MappingProxyType(dict.fromkeys(BUILT_IN_TIERS, 1))

INTEGRATIONS_VARIABLE: Final = "POISE_INTEGRATION_INTEGRATIONS"
"""The integration tier's setting that names the APIs. Without it, the default is no integration worker."""

DEFAULT_GATEWAY_PORT: Final = 8080


def default_workers() -> dict[str, int]:
    """Return one worker for each tier; for the integration tier only if an integration is configured.

    Raises:
        SetupError: The settings file cannot be read.
    """
    return {**ONE_WORKER_PER_TIER, "integration": int(_integrations_configured())}


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
    """Loopback ports; 0 = any free port."""

    kafka: int = 0
    redis: int = 0
    model: int = 0
    gateway: int | None = None
    """None = 8080 if it is free, else any free port."""


@dataclass(frozen=True, slots=True)
class ExternalServices:
    """External services that replace parts of the stack; None = the stack starts its own."""

    broker: str | None = None
    """Kafka's bootstrap servers, `host:port[,host:port…]`."""
    redis_url: str | None = None
    model_url: str | None = None
    """The base address of an OpenAI-compatible server."""
    model_name: str | None = None
    """The model's name on that server."""
    model_key_env: str | None = None
    """The environment variable with the API key of that server."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """The parts of a stack, and its directory."""

    directory: Path = Path(".poise")
    """Holds data, logs and the state file; used by one stack at a time."""
    workers: Mapping[str, int] = field(default_factory=default_workers)
    """The number of workers by tier; 0 for absent tiers."""
    ports: Ports = Ports()
    external: ExternalServices = ExternalServices()
    model: Path | None = None
    """A GGUF file for the embedded model server; None = the default model."""
    verify: bool = False
    """Verify the checksum of every cached file."""
    custom_tiers: Mapping[str, int] = field(default_factory=dict)
    """The number of workers of each custom tier, by file: `FILE.py` or `FILE.py:name`."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables for the workers. They override those of this process."""

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            SetupError: A tier is unknown, or options contradict each other.
        """
        for tier in self.workers:
            if tier not in BUILT_IN_TIERS:
                raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(BUILT_IN_TIERS)}")
        names = [custom_tier_name(where) for where in self.custom_tiers]
        for name in names:
            if name in BUILT_IN_TIERS or names.count(name) > 1:
                raise SetupError(f"--tier: two tiers have the name {name}, which is the name of the file: rename one")
        if self.external.model_url and not self.external.model_name:
            raise SetupError("--model-url needs --model-name: the model's name on that server")
        if self.external.model_url and self.model:
            raise SetupError("--model is served by the stack's own server: leave out --model or --model-url")


def parse_workers(text: str) -> dict[str, int]:
    """Parse `inference=3,retrieval=2`; tiers that are not named have the default number.

    Raises:
        SetupError: The syntax is wrong, or a tier is unknown.
    """
    workers = default_workers()
    for part in filter(None, (part.strip() for part in text.split(","))):
        tier, _, count = part.partition("=")
        if not count.isdecimal():
            raise SetupError(f"--workers {text!r} has an error at {part!r}: write inference=3,retrieval=2")
        if tier not in workers:
            raise SetupError(f"there is no tier {tier!r}: the tiers are {', '.join(BUILT_IN_TIERS)}")
        workers[tier] = int(count)
    return workers


def parse_custom_tiers(given: Iterable[str]) -> dict[str, int]:
    """Parse `FILE.py`, `FILE.py=2` or `FILE.py:name=2`; without a number, one worker.

    Raises:
        SetupError: The syntax is wrong, or the file does not exist.
    """
    workers: dict[str, int] = {}
    for text in given:
        where, _, count = text.rpartition("=") if "=" in text else (text, "", "1")
        if not count.isdecimal():
            raise SetupError(f"--tier {text!r} has no number after =: write FILE.py=2")
        if not _file_of(where).is_file():
            raise SetupError(f"--tier {text!r}: there is no file {_file_of(where)}")
        custom_tier_name(where)
        workers[where] = int(count)
    return workers


def custom_tier_name(where: str) -> str:
    """Return the name of a custom tier's workers: the name of its file.

    Raises:
        SetupError: The file's name cannot name a worker.
    """
    file = _file_of(where)
    if file.suffix != ".py" or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", file.stem):
        raise SetupError(f"--tier {where!r}: give a Python file whose name has only letters, digits, - and _")
    return file.stem


def _file_of(where: str) -> Path:
    file, colon, _ = where.rpartition(".py:")
    return Path(f"{file}.py" if colon else where)
