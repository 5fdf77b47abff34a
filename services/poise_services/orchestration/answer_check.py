"""The check: whether a model's answer may be sent."""

from dataclasses import dataclass

from poise.contracts import Citation, Completion
from poise.scoring import Evidence, groundedness, is_empty, is_looping, is_refusal, is_truncated, relevance
from poise.telemetry import semconv, span
from poise_services.orchestration.settings import LadderSettings


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """A model's answer that must not be sent, and why."""

    reason: str


def check(
    completion: Completion, evidence: Evidence, question: str, settings: LadderSettings, label: str
) -> tuple[Citation, ...] | CheckFailed:
    """Check a model's answer; return its citations, or why it is rejected.

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
            return CheckFailed(f"{label} {error}")
        grounding = groundedness(text, evidence, question=question)
        if grounding.score < settings.min_groundedness:
            unknown = f"; the passages do not say {', '.join(grounding.unknown[:3])}" if grounding.unknown else ""
            return CheckFailed(f"{label}'s answer is not grounded in the passages ({grounding.score:.2f}{unknown})")
        relevant = relevance(text, evidence, question)
        if relevant < settings.min_relevance:
            return CheckFailed(f"{label}'s answer is not relevant to the question ({relevant:.2f})")
        return grounding.citations


def _form_error(text: str, finish_reason: str) -> str | None:
    if is_empty(text):
        return "wrote nothing"
    if is_looping(text):
        return "repeated itself"
    if is_truncated(text, finish_reason):
        return "was cut off"
    return "declined to answer" if is_refusal(text) else None
