"""The orchestration tier's settings: the variants of the answer, the ladder below them, and the answers kept."""

from pathlib import Path
from typing import Annotated, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from poise.contracts import Rung
from poise.contracts.ask import LANGUAGE_TAG, NAME
from poise.settings import Settings

_STRICT = ConfigDict(frozen=True, extra="forbid")

LAST_RUNG: Rung = "canned"
NO_ANSWER = "I have no answer to that in the documents that I can search."


class Variant(BaseModel):
    """One way to have the answer written."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=NAME)]
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Its share among all weights. With 0 it is never drawn, and stands by for those that are."""
    backend: str = "default"
    """The inference tier's backend that writes it."""
    family: str | None = None
    """Variants of one family answer for one another from the cache; None = it stands alone."""
    sentences: Annotated[int, Field(ge=1, le=100)] = 2
    """How many of the passages' sentences the prompt holds: those that bear most on the question."""
    system: str | None = ""
    """The system message. An empty one keeps a chat template from putting a persona of its own in its place, which
    makes small models talkative; None sends none, for a backend that refuses an empty one."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    context: Annotated[int, Field(ge=1)] | None = None
    """Tokens that its model can take in. Of a prompt that is too long for one variant, one with more is asked next."""
    price_in: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """What a million tokens of the prompt cost, in any currency, the same for all variants; None = not known."""
    price_out: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """What a million tokens that it writes cost. Have both prices, or neither."""
    without_passages: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of asks for which the passages are left out of its prompt: a trouble to practise with, and an ablation
    (closed-book). What it writes is checked and scored against the passages as ever."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError(f"variant {self.name}: give both price_in and price_out (0 = for free), or neither")
        return self


class CannedText(BaseModel):
    """A fixed text, and for whom."""

    model_config = _STRICT

    text: Annotated[str, Field(min_length=1)]
    tenant: str | None = None
    """None = every tenant that has none of its own."""
    language: Annotated[str, Field(pattern=LANGUAGE_TAG)] | None = None
    """Of the reader (BCP 47): `de` is meant for `de-AT` too. None = every language that has none of its own."""


class Ladder(BaseModel):
    """The ladder of the answer, `[orchestration.ladder]`: what is said when the rung above does not bear."""

    model_config = _STRICT

    rungs: tuple[Rung, ...] = ("primary", "variant", "stale", "extractive", "canned")
    """In this order; leave one out to go without it. The last is `canned`, which bears always."""
    reserve: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of the time until the deadline that is kept back for the lower rungs."""
    grounded: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The least groundedness with which a model's answer is sent."""
    relevant: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The least relevance with which a model's answer is sent; 0 for models that answer in their own words."""
    failovers: Annotated[int, Field(ge=0, le=10)] = 1
    """How many other variants are asked, one after another, when the drawn one brings nothing that can be sent."""
    extractive_sentences: Annotated[int, Field(ge=1, le=10)] = 1
    """How many sentences an extractive answer has."""
    passages_for: Annotated[float, Field(ge=0)] = 3_600.0
    """Seconds that passages which were found are kept, to stand in while retrieval is down; 0 = not at all."""
    canned: tuple[CannedText, ...] = (CannedText(text=NO_ANSWER),)
    """What is said when nothing else is left. The most particular counts: tenant and language, tenant, language."""

    @model_validator(mode="after")
    def _bears(self) -> Self:
        if list(self.rungs) != [rung for rung in get_args(Rung) if rung in self.rungs]:
            raise ValueError(
                f"rungs go down, each once, in the order {', '.join(get_args(Rung))}: {', '.join(self.rungs)}"
            )
        if "variant" in self.rungs and "primary" not in self.rungs:
            raise ValueError("the rung 'variant' is for where the rung 'primary' does not bear: have both, or neither")
        if not self.rungs or self.rungs[-1] != LAST_RUNG:
            raise ValueError(f"the last rung must be {LAST_RUNG!r}, which bears always, not {', '.join(self.rungs)}")
        meant = [(text.tenant, text.language and text.language.lower()) for text in self.canned]
        if len(set(meant)) < len(meant):
            raise ValueError("canned: two texts are for the same tenant and language")
        if (None, None) not in meant:
            raise ValueError("canned: one text must be for every tenant and language: give it neither")
        return self


class AnswerCacheSettings(BaseModel):
    """Which answers are kept in Redis, and how long they count, `[orchestration.cache]`.

    The names are those of HTTP (RFC 9111 and RFC 5861).
    """

    model_config = _STRICT

    enabled: bool = True
    max_age: Annotated[float, Field(gt=0)] = 3_600.0
    """Seconds for which an answer is fresh, unless a document that it rests on changes before."""
    stale_while_revalidate: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which one that is not fresh any more is sent all the same, marked, and worked out anew behind it."""
    stale_if_error: Annotated[float, Field(ge=0)] = 86_400.0
    """Seconds for which one that is not fresh any more stands in, marked, when no model brings an answer."""
    max_entries: Annotated[int, Field(ge=1)] = 10_000
    """Answers kept per tenant; those used longest ago go first."""


class OrchestrationSettings(Settings):
    """What an orchestration worker needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_ORCHESTRATION_"}

    table: ClassVar[str] = "orchestration"

    workflows: tuple[str, ...] = ()
    """Workflows of your own: the modules that define them, by name (`acme.workflows`) or file (`FILE.py`)."""
    policy: str = "answer"
    """The policy that is followed for the variants' weights, once one of this name was set, and for which their scores
    count."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (Variant(name="default"),)
    draw_secret: SecretStr | None = None
    """What variants are drawn with, the same for all workers of the tier, so that no client can tell which one its run
    will be given. None = it is in a file."""
    draw_secret_file: Path | None = None
    """That file; None = `draw.secret` in the folder that the workers here share, made where it is not there."""
    passages: Annotated[int, Field(ge=1, le=100)] = 6
    """How many passages are retrieved."""
    integrations: tuple[Annotated[str, Field(pattern=NAME)], ...] = ()
    """Integrations of the integration tier's that are asked each question, beside the documents."""
    ladder: Ladder = Ladder()
    cache: AnswerCacheSettings = AnswerCacheSettings()

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        if not any(variant.weight for variant in self.variants):
            raise ValueError("no variant has a weight above zero")
        return self
