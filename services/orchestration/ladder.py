"""The ladder of the answer: what is said when the rung above cannot be stood on, and why."""

from collections.abc import Callable
from dataclasses import dataclass

from poise.contracts import Citation, Completion, Rung
from poise.scoring import Evidence, empty, extract, groundedness, looping, refused, relevance, truncated
from services.orchestration.settings import Ladder


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when an answer is chosen."""

    question: str
    evidence: Evidence
    completion: Completion | None
    """What the drawn variant wrote; None when nothing came of it."""
    trouble: str | None
    """What went wrong on the way here, in words."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A rung that bears: what is said from it."""

    rung: Rung
    text: str
    citations: tuple[Citation, ...] = ()
    reason: str | None = None
    """Why it is not the first rung."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rung that does not bear, and why."""

    reason: str


RungOf = Callable[[Situation, Ladder], Standing | Broken]


def primary(situation: Situation, settings: Ladder) -> Standing | Broken:
    """The drawn variant's answer, if the passages bear it."""
    if situation.completion is None:
        return Broken(situation.trouble or "no model was asked")
    text = situation.completion.text.strip()
    if (fault := _fault_of_form(text, situation.completion.finish_reason)) is not None:
        return Broken(fault)
    found = groundedness(text, situation.evidence, question=situation.question)
    if found.score < settings.grounded:
        named = f"; the passages do not say {', '.join(found.unknown[:3])}" if found.unknown else ""
        return Broken(f"the model's answer is not grounded in the passages ({found.score:.2f}{named})")
    relevant = relevance(text, situation.evidence, situation.question)
    if relevant < settings.relevant:
        return Broken(f"the model's answer says little of what the passages answer ({relevant:.2f})")
    return Standing("primary", text, found.citations)


def _fault_of_form(text: str, finish_reason: str) -> str | None:
    if empty(text):
        return "the model wrote nothing"
    if looping(text):
        return "the model repeated itself"
    if truncated(text, finish_reason):
        return "the model was cut off"
    return "the model declined to answer" if refused(text) else None


def extractive(situation: Situation, settings: Ladder) -> Standing | Broken:
    """The sentences of the passages that answer best, word for word."""
    lines = extract(situation.question, situation.evidence, settings.extractive_sentences)
    if not lines:
        return Broken("no passage bears on the question")
    lines.sort(key=lambda line: (line.rank, line.index))
    return Standing("extractive", " ".join(line.sentence for line in lines), tuple(line.citation for line in lines))


def canned(_situation: Situation, settings: Ladder) -> Standing | Broken:
    """A fixed text: the last rung always bears."""
    return Standing("canned", settings.canned[0].text)


LADDER: tuple[RungOf, ...] = (primary, extractive, canned)


def step_down(situation: Situation, settings: Ladder) -> Standing:
    """The highest rung that bears, with why those above it do not."""
    reasons: list[str] = []
    for rung in LADDER:
        outcome = rung(situation, settings)
        if isinstance(outcome, Standing):
            reason = "; ".join(dict.fromkeys(reasons)) or None
            return Standing(outcome.rung, outcome.text, outcome.citations, reason)
        reasons.append(outcome.reason)
    raise AssertionError("the last rung bears always")
