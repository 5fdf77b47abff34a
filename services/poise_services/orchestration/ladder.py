"""The ladder: tries the rungs of an answer from the top; the rungs that ask no model are here."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from poise.contracts import Ask, Rung
from poise.errors import WorkLimitError
from poise.workflows.run import Run
from poise_services.orchestration.cache_hints import CacheHints, EarlierAnswer
from poise_services.orchestration.canned import choose_text
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.generation import VariantAttempts
from poise_services.orchestration.retrieval import Retrieved
from poise_services.orchestration.rung_outcome import NoAnswer, RungResult
from poise_services.orchestration.settings import LadderSettings


@dataclass(frozen=True, slots=True)
class RungContext:
    """What a rung answers from."""

    run: Run
    ask: Ask
    retrieved: Retrieved
    evidence: EvidenceReader
    attempts: VariantAttempts
    hints: CacheHints
    ladder: LadderSettings


RungFunction = Callable[[RungContext], Awaitable[RungResult | NoAnswer]]
"""Answers by one rung, or returns why the rung gives no answer."""


async def answer_by_ladder(functions: Mapping[Rung, RungFunction], context: RungContext) -> RungResult:
    """Return the result of the highest rung that answers, with the reasons that those above it gave."""
    reasons: list[str | None] = []
    for rung in context.ladder.rungs:
        outcome = await functions[rung](context)
        if isinstance(outcome, RungResult):
            return replace(outcome, reason=join_reasons([*reasons, outcome.reason]))
        reasons.append(outcome.reason)
    raise AssertionError("the last rung always applies")


def join_reasons(reasons: Sequence[str | None]) -> str | None:
    """Return the distinct reasons as one text; None if there are none."""
    return "; ".join(filter(None, dict.fromkeys(reasons))) or None


def no_model_reason(context: RungContext) -> str | None:
    """Return why no model is to be asked; None = ask one."""
    if not context.retrieved.passages:
        return context.retrieved.error or "there are no passages"
    return context.hints.skip_model_reason


async def stale(context: RungContext) -> RungResult | NoAnswer:
    """Answer with an earlier, cached answer, unless the index itself no longer finds anything."""
    load = context.hints.stale_fallback
    if load is None:
        return NoAnswer()
    if not context.retrieved.passages and not context.retrieved.failed:
        return NoAnswer(context.retrieved.error)  # retrieval worked and found nothing; the error says why, if it knows
    earlier: EarlierAnswer | None = await context.run.step(
        "stale", load, returns=EarlierAnswer | None, id="stale", in_run_record=False
    )
    if earlier is None:
        return NoAnswer()  # there is none, or it is too stale to send: the usual case, no reason needed
    return RungResult("stale", earlier.text, earlier.citations, earlier.variant, earlier, earlier.reason)


async def extractive(context: RungContext) -> RungResult | NoAnswer:
    """Answer with the passages' most relevant sentences, word for word."""
    try:
        sentences = await context.evidence.extract(context.ask.question, context.ladder.extractive_sentences)
    except WorkLimitError as error:
        return NoAnswer(str(error))
    if not sentences:
        return NoAnswer("no passage is relevant to the question")
    sentences.sort(key=lambda sentence: (sentence.rank, sentence.index))
    text = " ".join(sentence.text for sentence in sentences)
    return RungResult("extractive", text, tuple(sentence.citation for sentence in sentences))


async def canned(context: RungContext) -> RungResult | NoAnswer:
    """Answer with a fixed text: the last rung, which always applies."""
    return RungResult("canned", choose_text(context.ladder.canned, context.run.tenant, context.ask.language))
