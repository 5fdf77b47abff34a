"""The ladder of the answer: what is said when the rung above cannot be stood on, and why."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from poise.contracts import Ask, Citation, Rung
from poise.errors import WorkLimitError
from poise.workflows.run import Run
from poise_services.orchestration.answer_check import Rejected
from poise_services.orchestration.cache_hints import CacheHints, StaleAnswer
from poise_services.orchestration.canned import choose_text
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.generation import GeneratedAnswer, Generator
from poise_services.orchestration.retrieval import Retrieved
from poise_services.orchestration.settings import Ladder


@dataclass(frozen=True, slots=True)
class FallbackContext:
    """What is known when an answer is chosen, and what can still be done for it."""

    run: Run
    ask: Ask
    found: Retrieved
    evidence: EvidenceReader
    writing: Generator
    hints: CacheHints
    settings: Ladder


@dataclass(frozen=True, slots=True)
class FallbackResult:
    """A rung that bears: what is said from it."""

    rung: Rung
    text: str
    citations: tuple[Citation, ...] = ()
    variant: str | None = None
    """Whose words these are; None = no model's."""
    earlier: StaleAnswer | None = None
    """The earlier answer that stands in."""
    reason: str | None = None
    """Why it is not the first rung."""


Fallback = Callable[[FallbackContext], Awaitable[FallbackResult | Rejected]]


async def primary(now: FallbackContext) -> FallbackResult | Rejected:
    """The drawn variant's words, if the passages bear them."""
    if (why := _unasked(now)) is not None:
        return now.writing.skip(why)
    return _standing(await now.writing.by_the_drawn())


async def variant(now: FallbackContext) -> FallbackResult | Rejected:
    """Another variant's words, if the passages bear them."""
    if (why := _unasked(now)) is not None:
        return Rejected(why)
    return _standing(await now.writing.by_another())


async def stale(now: FallbackContext) -> FallbackResult | Rejected:
    """An answer to an earlier ask of the same: not where the index itself says that there is nothing any more."""
    if now.hints.stale_fallback is None:
        return Rejected()
    if not now.found.passages and not now.found.failed:
        return Rejected(now.found.error)
    earlier: StaleAnswer | None = await now.run.step(
        "stale", now.hints.stale_fallback, returns=StaleAnswer | None, id="stale", recorded=False
    )
    if earlier is None:
        return Rejected()  # that there is none is the rule, and no news
    return FallbackResult("stale", earlier.text, earlier.citations, earlier.variant, earlier, earlier.reason)


async def extractive(now: FallbackContext) -> FallbackResult | Rejected:
    """The sentences of the passages that answer best, word for word."""
    try:
        lines = await now.evidence.extract(now.ask.question, now.settings.extractive_sentences)
    except WorkLimitError as error:
        return Rejected(str(error))
    if not lines:
        return Rejected("no passage bears on the question")
    lines.sort(key=lambda line: (line.rank, line.index))
    return FallbackResult(
        "extractive", " ".join(line.sentence for line in lines), tuple(line.citation for line in lines)
    )


async def canned(now: FallbackContext) -> FallbackResult | Rejected:
    """A fixed text: the last rung always bears."""
    return FallbackResult("canned", choose_text(now.settings.canned, now.run.tenant, now.ask.language))


LADDER: Final[Mapping[Rung, Fallback]] = MappingProxyType(
    {
        "primary": primary,
        "variant": variant,
        "stale": stale,
        "extractive": extractive,
        "canned": canned,
    }
)


async def run_fallbacks(now: FallbackContext) -> FallbackResult:
    """The highest rung of the settings that bears, with why those above it do not, each reason once."""
    reasons: list[str | None] = []
    for rung in now.settings.rungs:
        outcome = await LADDER[rung](now)
        if isinstance(outcome, FallbackResult):
            reason = "; ".join(filter(None, dict.fromkeys([*reasons, outcome.reason]))) or None
            return FallbackResult(
                outcome.rung, outcome.text, outcome.citations, outcome.variant, outcome.earlier, reason
            )
        reasons.append(outcome.reason)
    raise AssertionError("the last rung bears always")


def _standing(outcome: GeneratedAnswer | Rejected) -> FallbackResult | Rejected:
    if isinstance(outcome, Rejected):
        return outcome
    return FallbackResult(outcome.rung, outcome.text, outcome.citations, outcome.variant)


def _unasked(now: FallbackContext) -> str | None:
    """Why no model is asked; None = one is."""
    if not now.found.passages:
        return now.found.error or "there are no passages"
    return now.hints.skip_model_reason
