"""The check: whether a model's answer may be sent."""

from dataclasses import dataclass

from poise.contracts import Citation, Completion
from poise.scoring import Evidence, groundedness, is_empty, is_looping, is_refusal, is_truncated, relevance
from poise.telemetry import semconv, span
from poise_services.orchestration.settings import Ladder


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rung that does not apply, and why; None = not worth a reason."""

    reason: str | None = None


def check(
    completion: Completion, evidence: Evidence, question: str, settings: Ladder, label: str
) -> tuple[Citation, ...] | Rejected:
    """Check an answer; return its citations, or why it is rejected.

    Args:
        completion: The model's answer.
        evidence: The passages.
        question: The question.
        settings: The thresholds of groundedness and relevance.
        label: What the model is called in a reason.
    """
    with span(semconv.CHECK):
        text = completion.text.strip()
        if (error := _form_error(text, completion.finish_reason)) is not None:
            return Rejected(f"{label} {error}")
        found = groundedness(text, evidence, question=question)
        if found.score < settings.min_groundedness:
            named = f"; the passages do not say {', '.join(found.unknown[:3])}" if found.unknown else ""
            return Rejected(f"{label}'s answer is not grounded in the passages ({found.score:.2f}{named})")
        relevant = relevance(text, evidence, question)
        if relevant < settings.min_relevance:
            return Rejected(f"{label}'s answer says little of what the passages answer ({relevant:.2f})")
        return found.citations


def _form_error(text: str, finish_reason: str) -> str | None:
    if is_empty(text):
        return "wrote nothing"
    if is_looping(text):
        return "repeated itself"
    if is_truncated(text, finish_reason):
        return "was cut off"
    return "declined to answer" if is_refusal(text) else None
