"""Scenarios of the lab, read from TOML; errors name their line.

about = "One of two variants begins to answer wrongly."
hurt = "wrong"              # what counts as a hurt request: wrong, slow or failed
within = 0.05               # restored when at most this share of the last 100 requests was hurt
asks = 4000
rate = 40                   # asks per second

[policy]                    # the limits of the loop, as in a policy file
min_share = 0.03

[[variants]]
name = "steady"
weight = 0.5
wrong = 0.05                # the share of wrong answers
seconds = 0.1               # the median time of an answer

[degradation]               # optional: the degradation of one variant
variant = "cheap"
begins = 400                # at this ask
ends = 3400                 # before this one
wrong = 0.40                # what changes
"""

import tomllib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from poise.config import toml_lines
from poise.config.renamed import old_keys
from poise.contracts.ask import NAME_PATTERN
from poise.contracts.policy import Limits
from poise.errors import SetupError
from poise.text.error_text import error_message

HarmKind = Literal["wrong", "slow", "failed"]
"""What counts as hurt, if it happens to the drawn variant because of the degradation: its answer was wrong; it took
longer than the ceiling; it failed, or was skipped after failures."""

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, le=60)]


class ScenarioError(SetupError):
    """A scenario does not exist, or is invalid."""

    status = HTTPStatus.BAD_REQUEST


class Behavior(BaseModel):
    """How a scripted backend behaves."""

    model_config = _STRICT

    wrong: _Share = 0.0
    """The share of wrong answers."""
    seconds: _Seconds = 0.1
    """The median time of an answer."""
    spread: Annotated[float, Field(ge=0, le=2)] = 0.3
    """The standard deviation of the logarithm of that time."""
    slow: _Share = 0.0
    """The share of slow answers."""
    slow_by: _Seconds = 0.0
    """Seconds that a slow answer takes longer."""
    faults: _Share = 0.0
    """The share of requests that get 503."""
    down: Annotated[float, Field(ge=0)] = 0.0
    """Seconds of each period in which every request gets 503; 0 = it does not flap."""
    up: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between two such periods."""


class LabVariant(Behavior):
    """A variant and its usual behavior."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    weight: Annotated[float, Field(ge=0)] = 1.0


class Degradation(BaseModel):
    """The degradation of one variant; fields that are absent do not change."""

    model_config = _STRICT

    variant: str
    begins: Annotated[int, Field(ge=0)]
    """The first affected ask, from 0."""
    ends: Annotated[int, Field(ge=1)]
    """The first ask that is no longer affected."""
    wrong: _Share | None = None
    seconds: _Seconds | None = None
    spread: Annotated[float, Field(ge=0, le=2)] | None = None
    slow: _Share | None = None
    slow_by: _Seconds | None = None
    faults: _Share | None = None
    down: Annotated[float, Field(ge=0)] | None = None
    up: Annotated[float, Field(ge=0)] | None = None


class Scenario(BaseModel):
    """One scenario."""

    model_config = _STRICT
    renamed: ClassVar[Mapping[str, str]] = {"trouble": "degradation"}

    name: str = ""
    """The name of its file."""
    about: Annotated[str, Field(min_length=1)]
    hurt: HarmKind = "wrong"
    within: Annotated[float, Field(gt=0, lt=1)] = 0.05
    asks: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0, le=1_000)]
    """Asks per second."""
    policy: Limits = Limits()
    variants: Annotated[tuple[LabVariant, ...], Field(min_length=1)]
    degradation: Degradation | None = None

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        if not any(variant.weight for variant in self.variants):
            raise ValueError("no variant has a weight above zero")
        if self.hurt == "slow" and self.policy.max_latency is None:
            raise ValueError("slow answers need a ceiling: set policy.max_latency")
        degradation = self.degradation
        if degradation is None:
            return self
        if degradation.variant not in names:
            raise ValueError(f"the degradation is of {degradation.variant!r}, but the variants are {', '.join(names)}")
        if not degradation.begins < degradation.ends <= self.asks:
            raise ValueError(f"the degradation must begin before it ends, and end within {self.asks} asks")
        return self

    def usual(self, variant: str) -> Behavior:
        """Return the usual behavior of a variant."""
        found = next(one for one in self.variants if one.name == variant)
        return Behavior(**found.model_dump(include=set(Behavior.model_fields)))

    def behavior(self, variant: str, ask: int) -> Behavior:
        """Return the behavior of a variant at an ask, by its number."""
        if not self.is_degraded(ask) or self.degradation is None or self.degradation.variant != variant:
            return self.usual(variant)
        changed = self.degradation.model_dump(exclude_none=True, include=set(Behavior.model_fields))
        return self.usual(variant).model_copy(update=changed)

    def is_degraded(self, ask: int) -> bool:
        """Return whether an ask falls within the degradation."""
        return self.degradation is not None and self.degradation.begins <= ask < self.degradation.ends

    def of_asks(self, asks: int) -> Self:
        """Return the scenario with another number of asks; the degradation is scaled with it."""
        if self.degradation is None:
            return self.model_copy(update={"asks": asks})
        share = asks / self.asks
        begins = round(self.degradation.begins * share)
        ends = max(begins + 1, round(self.degradation.ends * share))
        return self.model_copy(
            update={"asks": asks, "degradation": self.degradation.model_copy(update={"begins": begins, "ends": ends})}
        )


def scenario_names() -> list[str]:
    """Return the names of the built-in scenarios."""
    return sorted(entry.name.removesuffix(".toml") for entry in _built_in().iterdir() if entry.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Return a scenario by its name or file.

    Raises:
        ScenarioError: It does not exist or is invalid: `FILE:LINE: key: reason`, one line for each error.
    """
    if name in scenario_names():
        return parse_scenario(_built_in().joinpath(f"{name}.toml").read_text(), name)
    path = Path(name)
    if not path.is_file():
        raise ScenarioError(
            f"there is no scenario and no file {name!r}: use {', '.join(scenario_names())}, or FILE.toml"
        )
    try:
        return parse_scenario(path.read_text(encoding="utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read: {error_message(error)}") from error


def parse_scenario(text: str, where: str) -> Scenario:
    """Parse a scenario.

    Args:
        text: TOML.
        where: Its name or file, for error messages.

    Raises:
        ScenarioError: It is invalid.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{where}:{toml_lines.line_of_syntax_error(text)}: is not TOML: {error}") from error
    if old := list(old_keys(Scenario, values)):
        lines = toml_lines.key_lines(text)
        raise ScenarioError(
            "\n".join(f"{where}:{_line(lines, key.path)}: {'.'.join(map(str, key.path))} {key.advice()}" for key in old)
        )
    try:
        # `extra`: `Limits` itself ignores unknown fields, for newer records.
        return Scenario.model_validate({**values, "name": Path(where).stem}, extra="forbid")
    except ValidationError as error:
        lines = toml_lines.key_lines(text)
        faults = sorted((_line(lines, fault["loc"]), _message(fault)) for fault in error.errors(include_url=False))
        raise ScenarioError("\n".join(f"{where}:{line}: {what}" for line, what in faults)) from error


def _line(lines: Mapping[toml_lines.KeyPath, int], place: toml_lines.KeyPath) -> int:
    """Return the line of a key, else of its closest parent, else the first line."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _message(fault: ErrorDetails) -> str:
    reason = fault["msg"].removeprefix("Value error, ")
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {reason}" if place else reason


def _built_in() -> Traversable:
    return files("poise_labs.lab") / "scenarios"
