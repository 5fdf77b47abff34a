"""Groundedness: whether the passages bear what an answer says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from poise.contracts import Citation
from poise.scoring.evidence import Evidence, Line
from poise.scoring.text import facts, negated, sentences, stems

UNKNOWN_FACT: Final = 0.5
"""What is left of a sentence's score when it names a number, identifier or name that the passages do not know."""
TURNED_ROUND: Final = 0.6
"""What is left when a sentence denies what its evidence affirms, or the other way about."""
_ALONE: Final = 0.1
"""How much the line by itself counts, so that of two windows that bear as much the one that begins with it wins."""


@dataclass(frozen=True, slots=True)
class Groundedness:
    """How well an answer is borne by its passages."""

    score: float
    """0 to 1: that of the sentence that is borne least, for one made-up sentence spoils an answer."""
    citations: tuple[Citation, ...]
    """For each sentence, the line of a passage that bears it best; each once."""
    unknown: tuple[str, ...]
    """Facts that the answer names and the passages do not know."""


@dataclass(frozen=True, slots=True)
class _Support:
    score: float
    line: Line | None = None
    unknown: tuple[str, ...] = ()


def groundedness(answer: str, evidence: Evidence, *, question: str = "") -> Groundedness:
    """Judge an answer by lexical evidence, sentence by sentence.

    For each sentence: the weighted containment of its words in the best window of two sentences of a passage, lowered
    when it names facts that the passages do not know (the entity precision of Nan et al., "Entity-level Factual
    Consistency of Abstractive Text Summarization", EACL 2021) and when it is negated and its evidence is not. Words
    that only repeat the question prove nothing and count for half.

    Args:
        answer: What is judged; an empty one scores 0.
        evidence: Of the passages that it should rest on.
        question: What it answers.
    """
    found = [_support(sentence, evidence, question) for sentence in sentences(answer)]
    citations = dict.fromkeys(support.line.citation for support in found if support.line is not None)
    unknown = dict.fromkeys(fact for support in found for fact in support.unknown)
    return Groundedness(min((support.score for support in found), default=0.0), tuple(citations), tuple(unknown))


def _support(sentence: str, evidence: Evidence, question: str) -> _Support:
    score, line = _best(stems(sentence), evidence)
    if line is None:
        return _Support(0.0)
    asked = frozenset(stems(question))
    said = [stem for stem in stems(sentence) if stem not in asked]
    if said:
        own, _ = _best(said, evidence)
        score = (score + own) / 2
    unknown = tuple(fact for fact in facts(sentence) if not evidence.knows(fact) and fact not in question)
    if unknown:
        score *= UNKNOWN_FACT
    if negated(sentence) != negated(line.sentence):
        score *= TURNED_ROUND
    return _Support(score, line, unknown)


def _best(said: list[str], evidence: Evidence) -> tuple[float, Line | None]:
    """How much of what is said stands in the best window of two sentences, and where that begins."""
    found: tuple[float, Line | None] = (0.0, None)
    for line, window in _windows(evidence):
        together = evidence.containment(said, window)
        score = (1 - _ALONE) * together + _ALONE * evidence.containment(said, line.vocabulary)
        if score > found[0]:
            found = score, line
    return found


def _windows(evidence: Evidence) -> Iterator[tuple[Line, frozenset[str]]]:
    for line in evidence.lines:
        after = evidence.after(line)
        yield line, line.vocabulary | (after.vocabulary if after is not None else frozenset())
