"""Fallbacks: the ladder of an answer, what each lower rung says, and why a rung does not apply."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from poise.contracts import Ask, Citation, Rung
from poise.errors import WorkLimitError
from poise.workflows.run import Run
from poise_services.orchestration.answer_check import Rejected
from poise_services.orchestration.cache_hints import CacheHints, StaleAnswer
from poise_services.orchestration.canned import choose_text
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.generation import Generator
from poise_services.orchestration.retrieval import Retrieved
from poise_services.orchestration.settings import Ladder


@dataclass(frozen=True, slots=True)
class FallbackContext:
    """What the rungs of the ladder answer from."""

    run: Run
    ask: Ask
    retrieved: Retrieved
    evidence: EvidenceReader
    generator: Generator
    hints: CacheHints
    ladder: Ladder


@dataclass(frozen=True, slots=True)
class FallbackResult:
    """The answer of a rung that applies."""

    rung: Rung
    text: str
    citations: tuple[Citation, ...] = ()
    variant: str | None = None
    """The variant that wrote the text; None = no model did."""
    earlier: StaleAnswer | None = None
    """The earlier answer that is used."""
    reason: str | None = None
    """Why it is not the first rung."""


Fallback = Callable[[FallbackContext], Awaitable[FallbackResult | Rejected]]


async def run_fallbacks(rungs: Mapping[Rung, Fallback], context: FallbackContext) -> FallbackResult:
    """Return the result of the highest rung that applies, with each distinct reason why those above it do not."""
    reasons: list[str | None] = []
    for rung in context.ladder.rungs:
        outcome = await rungs[rung](context)
        if isinstance(outcome, FallbackResult):
            return replace(outcome, reason=_joined([*reasons, outcome.reason]))
        reasons.append(outcome.reason)
    raise AssertionError("the last rung always applies")


def _joined(reasons: list[str | None]) -> str | None:
    return "; ".join(filter(None, dict.fromkeys(reasons))) or None


def no_model_reason(context: FallbackContext) -> str | None:
    """Return why no model is asked; None = one is."""
    if not context.retrieved.passages:
        return context.retrieved.error or "there are no passages"
    return context.hints.skip_model_reason


async def stale(context: FallbackContext) -> FallbackResult | Rejected:
    """Answer with a stale cached answer, unless the index itself no longer finds anything."""
    load = context.hints.stale_fallback
    if load is None:
        return Rejected()
    if not context.retrieved.passages and not context.retrieved.failed:
        return Rejected(context.retrieved.error)
    earlier: StaleAnswer | None = await context.run.step(
        "stale", load, returns=StaleAnswer | None, id="stale", recorded=False
    )
    if earlier is None:
        return Rejected()  # the usual case: not worth a reason
    return FallbackResult("stale", earlier.text, earlier.citations, earlier.variant, earlier, earlier.reason)


async def extractive(context: FallbackContext) -> FallbackResult | Rejected:
    """Answer with the passages' most relevant sentences, word for word."""
    try:
        lines = await context.evidence.extract(context.ask.question, context.ladder.extractive_sentences)
    except WorkLimitError as error:
        return Rejected(str(error))
    if not lines:
        return Rejected("no passage is relevant to the question")
    lines.sort(key=lambda line: (line.rank, line.index))
    text = " ".join(line.sentence for line in lines)
    return FallbackResult("extractive", text, tuple(line.citation for line in lines))


async def canned(context: FallbackContext) -> FallbackResult | Rejected:
    """Answer with a fixed text: the last rung, which always applies."""
    return FallbackResult("canned", choose_text(context.ladder.canned, context.run.tenant, context.ask.language))
