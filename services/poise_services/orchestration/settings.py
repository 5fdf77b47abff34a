"""The orchestration tier's settings: variants, ladder and answer cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from poise.contracts import Rung
from poise.contracts.ask import LANGUAGE_TAG, NAME_PATTERN
from poise.settings import Settings

_STRICT = ConfigDict(frozen=True, extra="forbid")

LAST_RUNG: Rung = "canned"
NO_ANSWER = "I have no answer to that in the documents that I can search."


class Variant(BaseModel):
    """One way to generate the answer."""

    model_config = _STRICT
    renamed: ClassVar[Mapping[str, str]] = {
        "family": "cache_group",
        "sentences": "prompt_sentences",
        "context": "context_window",
        "price_in": "input_token_price",
        "price_out": "output_token_price",
    }
    removed: ClassVar[Mapping[str, str]] = {
        "without_passages": (
            "it left the passages out of the prompt, as the fault of `poise balance`; delete it. `poise balance` makes"
            " this fault in its own model proxy"
        )
    }

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Relative weight: the probability of being drawn is the weight divided by the sum of all weights. A variant of
    weight 0 is never drawn and is on standby for the others."""
    backend: str = "default"
    """The inference tier's backend that it calls."""
    cache_group: str | None = None
    """Variants of one group share cached answers; None = no group."""
    prompt_sentences: Annotated[int, Field(ge=1, le=100)] = 2
    """How many of the passages' sentences the prompt has: those most relevant to the question."""
    system: str | None = ""
    """The system message. An empty one prevents a chat template from inserting its default persona, which makes small
    models talkative; None sends no system message, for a backend that refuses an empty one."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    context_window: Annotated[int, Field(ge=1)] | None = None
    """The model's context window, tokens. If a prompt is too long for it, a variant with a larger one is asked next."""
    input_token_price: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Price of a million prompt tokens, in any currency, the same for all variants; None = unknown."""
    output_token_price: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Price of a million completion tokens. Set both prices or neither."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if (self.input_token_price is None) != (self.output_token_price is None):
            raise ValueError(
                f"variant {self.name}: set both input_token_price and output_token_price (0 = free), or neither"
            )
        return self


class CannedText(BaseModel):
    """A fixed text, and for whom it is."""

    model_config = _STRICT

    text: Annotated[str, Field(min_length=1)]
    tenant: str | None = None
    """None = every tenant without a text for itself."""
    language: Annotated[str, Field(pattern=LANGUAGE_TAG)] | None = None
    """The reader's language (BCP 47): `de` applies to `de-AT` too. None = every language without a text for itself."""


class LadderSettings(BaseModel):
    """The ladder of the answer, `[orchestration.ladder]`: what is sent if the rung above does not apply."""

    model_config = _STRICT
    renamed: ClassVar[Mapping[str, str]] = {
        "reserve": "deadline_reserve",
        "grounded": "min_groundedness",
        "relevant": "min_relevance",
        "failovers": "max_failovers",
        "passages_for": "passages_ttl",
    }

    rungs: tuple[Rung, ...] = ("primary", "variant", "stale", "extractive", "canned")
    """The rungs, in this order; leave out those not to be used. The last is `canned`, which always applies."""
    deadline_reserve: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of the time until the deadline that is reserved for the lower rungs."""
    min_groundedness: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Minimum groundedness of a model's answer."""
    min_relevance: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Minimum relevance of a model's answer; use 0 for models that paraphrase."""
    max_failovers: Annotated[int, Field(ge=0, le=10)] = 1
    """How many other variants are asked, one after another, if the drawn one provides no answer that can be sent."""
    extractive_sentences: Annotated[int, Field(ge=1, le=10)] = 1
    """How many sentences an extractive answer has."""
    passages_ttl: Annotated[float, Field(ge=0)] = 3_600.0
    """Seconds for which retrieved passages are cached, for when retrieval is down; 0 = do not cache them."""
    canned: tuple[CannedText, ...] = (CannedText(text=NO_ANSWER),)
    """What is sent if no other rung applies. The most specific text is used: tenant and language, tenant, language."""

    @model_validator(mode="after")
    def _validated(self) -> Self:
        if list(self.rungs) != [rung for rung in get_args(Rung) if rung in self.rungs]:
            raise ValueError(
                f"rungs must be, each once, in the order {', '.join(get_args(Rung))}: {', '.join(self.rungs)}"
            )
        if "variant" in self.rungs and "primary" not in self.rungs:
            raise ValueError("the rung 'variant' needs the rung 'primary': use both, or neither")
        if not self.rungs or self.rungs[-1] != LAST_RUNG:
            raise ValueError(f"the last rung must be {LAST_RUNG!r}, which always applies, not {', '.join(self.rungs)}")
        targets = [(text.tenant, text.language and text.language.lower()) for text in self.canned]
        if len(set(targets)) < len(targets):
            raise ValueError("canned: two texts are for the same tenant and language")
        if (None, None) not in targets:
            raise ValueError("canned: one text must have neither tenant nor language, for all others")
        return self


class AnswerCacheSettings(BaseModel):
    """Which answers are cached in Redis, and for how long they are fresh, `[orchestration.cache]`.

    The names are those of HTTP (RFC 9111 and RFC 5861).
    """

    model_config = _STRICT

    enabled: bool = True
    max_age: Annotated[float, Field(gt=0)] = 3_600.0
    """Seconds for which an answer is fresh, unless a document that it depends on changes before."""
    stale_while_revalidate: Annotated[float, Field(ge=0)] = 0.0
    """Seconds for which a stale answer is sent, marked, while it is refreshed in the background."""
    stale_if_error: Annotated[float, Field(ge=0)] = 86_400.0
    """Seconds for which a stale answer is sent, marked, if no model provides one."""
    max_entries: Annotated[int, Field(ge=1)] = 10_000
    """Answers cached per tenant; the least recently used are evicted first."""


class OrchestrationSettings(Settings):
    """Settings of an orchestration worker."""

    model_config = Settings.model_config | {"env_prefix": "POISE_ORCHESTRATION_"}

    table: ClassVar[str] = "orchestration"
    renamed: ClassVar[Mapping[str, str]] = {"passages": "top_k"}

    workflows: tuple[str, ...] = ()
    """Modules that define your workflows, by name (`acme.workflows`) or file (`FILE.py`)."""
    policy: str = "answer"
    """Name of the policy that sets the variants' weights, once it has been set, and that their scores count for."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = (Variant(name="default"),)
    draw_secret: SecretStr | None = None
    """The secret that variants are drawn with, the same for all workers of the tier, so that no client can predict the
    variant of its run. None = read it from a file."""
    draw_secret_file: Path | None = None
    """That file; None = `draw.secret` in the folder that the workers on this host share, created if missing."""
    top_k: Annotated[int, Field(ge=1, le=100)] = 6
    """How many passages are retrieved."""
    integrations: tuple[Annotated[str, Field(pattern=NAME_PATTERN)], ...] = ()
    """Integrations that are queried with each question, beside the documents."""
    ladder: LadderSettings = LadderSettings()
    cache: AnswerCacheSettings = AnswerCacheSettings()

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have the same name: {', '.join(names)}")
        if not any(variant.weight for variant in self.variants):
            raise ValueError("no variant has a weight above zero")
        return self
