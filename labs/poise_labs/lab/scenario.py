"""Scenarios: what a lab is made of and what happens in it, read from TOML; what is wrong is told with its line.

about = "One of two variants begins to answer wrongly."
hurt = "wrong"              # what counts as a request that was hurt: wrong, slow or failed
within = 0.05               # it is over when at most this share of the last hundred requests was hurt
asks = 4000
rate = 40                   # a second

[policy]                    # what the loop may do, as in a policy file
min_share = 0.03

[[variants]]
name = "steady"
weight = 0.5
wrong = 0.05                # the share of its answers that is wrong
seconds = 0.1               # the median time that it takes

[trouble]                   # leave it out, and nothing happens
variant = "cheap"
begins = 400                # with this ask
ends = 3400                 # before this one
wrong = 0.40                # what it changes
"""

import tomllib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from poise.config import toml_lines
from poise.config.renamed import renamed_keys
from poise.contracts.ask import NAME
from poise.contracts.policy import Limits
from poise.errors import SetupError
from poise.text.error_text import error_message

HarmKind = Literal["wrong", "slow", "failed"]
"""What counts as hurt, of the variant that was drawn and because of the trouble: its words were wrong; it took longer
than the ceiling; it brought a fault, or was left alone because of faults and another one had to stand in."""

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, le=60)]


class ScenarioError(SetupError):
    """A scenario is refused: there is none of that name, or its file says what cannot be."""

    status = HTTPStatus.BAD_REQUEST


class Behaviour(BaseModel):
    """How a scripted backend behaves."""

    model_config = _STRICT

    wrong: _Share = 0.0
    """The share of its answers that is wrong."""
    seconds: _Seconds = 0.1
    """The median time that an answer takes."""
    spread: Annotated[float, Field(ge=0, le=2)] = 0.3
    """How much that varies: the standard deviation of its logarithm."""
    slow: _Share = 0.0
    """The share of its answers that takes longer."""
    slow_by: _Seconds = 0.0
    """So many seconds longer."""
    faults: _Share = 0.0
    """The share of its requests that is answered 503."""
    down: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which it is down, every request then answered 503, again and again."""
    up: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which it is up in between."""


class LabVariant(Behaviour):
    """A variant and how it behaves as a rule."""

    name: Annotated[str, Field(pattern=NAME)]
    weight: Annotated[float, Field(ge=0)] = 1.0


class Degradation(BaseModel):
    """What happens to one variant: what is not said stays as it is."""

    model_config = _STRICT

    variant: str
    begins: Annotated[int, Field(ge=0)]
    """With this ask, from 0."""
    ends: Annotated[int, Field(ge=1)]
    """Before this ask."""
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

    name: str = ""
    """That of its file."""
    about: Annotated[str, Field(min_length=1)]
    hurt: HarmKind = "wrong"
    within: Annotated[float, Field(gt=0, lt=1)] = 0.05
    asks: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0, le=1_000)]
    """Asks a second."""
    policy: Limits = Limits()
    variants: Annotated[tuple[LabVariant, ...], Field(min_length=1)]
    trouble: Degradation | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        if not any(variant.weight for variant in self.variants):
            raise ValueError("no variant has a weight above zero")
        if self.hurt == "slow" and self.policy.max_latency is None:
            raise ValueError("hurt by slowness is what takes longer than the ceiling: give policy.max_latency")
        trouble = self.trouble
        if trouble is None:
            return self
        if trouble.variant not in names:
            raise ValueError(f"the trouble is of {trouble.variant!r}, and the variants are {', '.join(names)}")
        if not trouble.begins < trouble.ends <= self.asks:
            raise ValueError(f"the trouble must begin before it ends, and end within {self.asks} asks")
        return self

    def usual(self, variant: str) -> Behaviour:
        """How a variant behaves as a rule."""
        found = next(one for one in self.variants if one.name == variant)
        return Behaviour(**found.model_dump(include=set(Behaviour.model_fields)))

    def behaviour(self, variant: str, ask: int) -> Behaviour:
        """How a variant behaves towards an ask, by its number."""
        if not self.troubled(ask) or self.trouble is None or self.trouble.variant != variant:
            return self.usual(variant)
        changed = self.trouble.model_dump(exclude_none=True, include=set(Behaviour.model_fields))
        return self.usual(variant).model_copy(update=changed)

    def troubled(self, ask: int) -> bool:
        """Whether the trouble lasts as this ask is made."""
        return self.trouble is not None and self.trouble.begins <= ask < self.trouble.ends

    def of_asks(self, asks: int) -> Self:
        """The same with another number of asks: the trouble begins and ends at the same share of them."""
        if self.trouble is None:
            return self.model_copy(update={"asks": asks})
        share = asks / self.asks
        begins = round(self.trouble.begins * share)
        ends = max(begins + 1, round(self.trouble.ends * share))
        return self.model_copy(
            update={"asks": asks, "trouble": self.trouble.model_copy(update={"begins": begins, "ends": ends})}
        )


def scenario_names() -> list[str]:
    """The scenarios that come with Poise."""
    return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """A scenario, by its name or its file.

    Raises:
        SetupError: There is none, or it says what cannot be: `FILE:LINE: what: why`, one line for each fault.
    """
    if name in scenario_names():
        return parse_scenario(_shipped().joinpath(f"{name}.toml").read_text(), name)
    path = Path(name)
    if not path.is_file():
        raise ScenarioError(
            f"there is no scenario {name!r}, and no such file: {', '.join(scenario_names())}, or FILE.toml"
        )
    try:
        return parse_scenario(path.read_text(encoding="utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read: {error_message(error)}") from error


def parse_scenario(text: str, where: str) -> Scenario:
    """Read a scenario.

    Args:
        text: TOML.
        where: What it is called in an error: its name or its file.

    Raises:
        SetupError: It says what cannot be.
    """
    try:
        said: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{where}:{toml_lines.line_of_syntax_error(text)}: is no TOML: {error}") from error
    if old := list(renamed_keys(Scenario, said)):
        lines = toml_lines.key_lines(text)
        raise ScenarioError(
            "\n".join(
                f"{where}:{_line(lines, key.path)}: {'.'.join(map(str, key.path))} was renamed: set {key.new}"
                for key in old
            )
        )
    try:
        return Scenario.model_validate({**said, "name": Path(where).stem})
    except ValidationError as error:
        lines = toml_lines.key_lines(text)
        faults = sorted((_line(lines, fault["loc"]), _told(fault)) for fault in error.errors(include_url=False))
        raise ScenarioError("\n".join(f"{where}:{line}: {what}" for line, what in faults)) from error


def _line(lines: Mapping[toml_lines.KeyPath, int], place: toml_lines.KeyPath) -> int:
    """The line of what is wrong, else of what it would stand in, else the first."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _told(fault: ErrorDetails) -> str:
    said = fault["msg"].removeprefix("Value error, ")
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {said}" if place else said


def _shipped() -> Traversable:
    return files("poise_labs.lab") / "scenarios"
