"""Extraction: the sentences of the passages that answer a question best, without a model."""

from typing import Final

from poise.scoring import text
from poise.scoring.evidence import Evidence, Line

_HEADING: Final = 0.5
"""What a question's word counts for when it stands in the passage's heading only."""
_BEFORE: Final = 0.3
"""What it counts for when it stands in the sentence before only: "It is also …" goes on about it."""
_RANK: Final = 0.05
"""What each place lower in the retrieval's order costs."""
_POOR: Final = 0.4
"""What is left of a sentence that says next to nothing, or is none."""
_FEWEST_WORDS: Final = 4
_LONGEST_WORDS: Final = 45


def extract(question: str, evidence: Evidence, number: int) -> list[Line]:
    """The lines that answer a question best, best first.

    Query-biased sentence selection (Tombros and Sanderson, "Advantages of Query Biased Summaries in Information
    Retrieval", 1998): the question's words in the sentence, weighted by how much they tell; the heading and the
    sentence before count for less, and a worse rank costs.
    """
    scored = [(_score(question, evidence, place), line) for place, line in enumerate(evidence.lines)]
    scored.sort(key=lambda item: -item[0])
    return [line for score, line in scored[:number] if score > 0]


def _score(question: str, evidence: Evidence, place: int) -> float:
    line = evidence.lines[place]
    asked = set(text.stems(question))
    heading = frozenset(text.stems(line.passage.heading or ""))
    before = evidence.lines[place - 1] if place else None
    earlier = before.stems if before is not None and before.passage is line.passage else frozenset[str]()
    share = sum(
        evidence.weight(stem)
        * (1.0 if stem in line.stems else _HEADING if stem in heading else _BEFORE if stem in earlier else 0.0)
        for stem in asked
    )
    total = sum(evidence.weight(stem) for stem in asked)
    score = share / total if total else 0.0
    length = len(text.words(line.sentence))
    if length < _FEWEST_WORDS or not line.stems - asked or line.sentence.endswith(":"):
        score *= _POOR
    elif not line.sentence.endswith((".", "!", "?", ")", '"', "”")) or length > _LONGEST_WORDS:
        score *= 0.8
    return score - _RANK * line.rank
