"""The orchestration tier's settings: the variants of the answer, and when to step down the ladder."""

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from poise.settings import Settings


class Variant(BaseModel):
    """One way to have the answer written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")]
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its share among all weights."""
    backend: str = "default"
    """The inference tier's backend that writes it."""
    sentences: Annotated[int, Field(ge=1, le=100)] = 2
    """How many of the passages' sentences the prompt holds: those that bear most on the question."""
    system: str | None = ""
    """The system message. An empty one keeps a chat template from putting a persona of its own in its place, which
    makes small models talkative; None sends none, for a backend that refuses an empty one."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


class OrchestrationSettings(Settings):
    """What an orchestration worker needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_ORCHESTRATION_"}

    table: ClassVar[str] = "orchestration"

    policy: str = "answer"
    """The name under which the variants' scores are kept."""
    policy_version: Annotated[int, Field(ge=1)] = 1
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (Variant(name="default"),)
    passages: Annotated[int, Field(ge=1, le=100)] = 6
    """How many passages are retrieved."""
    grounded: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The least groundedness with which a model's answer is sent."""
    relevant: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The least relevance with which a model's answer is sent; 0 for models that answer in their own words."""
    reserve: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of the time until the deadline that is kept back for the lower rungs."""
    extractive_sentences: Annotated[int, Field(ge=1, le=10)] = 1
    """How many sentences an extractive answer has."""
    canned: str = "I have no answer to that in the documents that I can search."
    """What is said when nothing else is left."""

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        if not any(variant.weight for variant in self.variants):
            raise ValueError("no variant has a weight above zero")
        return self
