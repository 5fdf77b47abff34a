"""Groundedness: whether the passages bear what an answer says."""

from dataclasses import dataclass
from typing import Final

from poise.contracts import Citation
from poise.scoring import text
from poise.scoring.evidence import Evidence

UNKNOWN_FACT: Final = 0.5
"""What is left of a sentence's score when it names a number, identifier or name that the passages do not know."""
TURNED_ROUND: Final = 0.6
"""What is left when a sentence denies what its evidence affirms, or the other way about."""


@dataclass(frozen=True, slots=True)
class Groundedness:
    """How well an answer is borne by its passages."""

    score: float
    """0 to 1: that of the sentence that is borne least, for one invented sentence spoils an answer."""
    citations: tuple[Citation, ...]
    """For each sentence, the line of a passage that bears it best; each once."""
    unknown: tuple[str, ...]
    """Facts that the answer names and the passages do not know."""


def groundedness(answer: str, evidence: Evidence, *, question: str = "") -> Groundedness:
    """Judge an answer by lexical evidence, sentence by sentence.

    For each sentence: the weighted containment of its content words in the best window of two sentences of a passage,
    lowered when it names facts that the passages do not know (the entity precision of Nan et al., "Entity-level Factual
    Consistency of Abstractive Text Summarization", EACL 2021) and when it is negated and its evidence is not. Words that
    only repeat the question prove nothing and count for half.

    Args:
        answer: What is judged; an empty one scores 0.
        evidence: Of the passages that it should rest on.
        question: What it answers.
    """
    sentences = text.sentences(answer)
    asked = frozenset(text.stems(question))
    scores: list[float] = []
    citations: list[Citation] = []
    unknown: list[str] = []
    for sentence in sentences:
        share, line = evidence.best(sentence)
        said = [stem for stem in text.stems(sentence) if stem not in asked]
        if said and line is not None:
            own, _ = evidence.best(" ".join(said))
            share = (share + own) / 2
        missing = [fact for fact in text.facts(sentence) if not evidence.knows(fact) and fact not in question]
        unknown += missing
        if missing:
            share *= UNKNOWN_FACT
        if line is not None and text.negated(sentence) != text.negated(line.sentence):
            share *= TURNED_ROUND
        scores.append(share)
        if line is not None and line.citation not in citations:
            citations.append(line.citation)
    return Groundedness(min(scores, default=0.0), tuple(citations), tuple(unknown))
