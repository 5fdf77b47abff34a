"""Checking: whether what a model wrote may be sent."""

from dataclasses import dataclass

from poise.contracts import Citation, Completion
from poise.scoring import Evidence, empty, groundedness, looping, refused, relevance, truncated
from poise.telemetry import semconv, span
from poise_services.orchestration.settings import Ladder


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rung that does not bear, and why; None = there is no such rung here, of which nothing needs to be said."""

    reason: str | None = None


def check(
    completion: Completion, evidence: Evidence, question: str, settings: Ladder, who: str
) -> tuple[Citation, ...] | Rejected:
    """The places that an answer rests on, if it may be sent.

    Args:
        completion: What the model wrote.
        evidence: The passages that it was given.
        question: The question.
        settings: How grounded and relevant it must be.
        who: What the model is called in a reason.
    """
    with span(semconv.CHECK):
        text = completion.text.strip()
        if (fault := _fault_of_form(text, completion.finish_reason)) is not None:
            return Rejected(f"{who} {fault}")
        found = groundedness(text, evidence, question=question)
        if found.score < settings.grounded:
            named = f"; the passages do not say {', '.join(found.unknown[:3])}" if found.unknown else ""
            return Rejected(f"{who}'s answer is not grounded in the passages ({found.score:.2f}{named})")
        relevant = relevance(text, evidence, question)
        if relevant < settings.relevant:
            return Rejected(f"{who}'s answer says little of what the passages answer ({relevant:.2f})")
        return found.citations


def _fault_of_form(text: str, finish_reason: str) -> str | None:
    if empty(text):
        return "wrote nothing"
    if looping(text):
        return "repeated itself"
    if truncated(text, finish_reason):
        return "was cut off"
    return "declined to answer" if refused(text) else None
