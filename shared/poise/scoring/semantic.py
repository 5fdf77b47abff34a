"""Semantic comparison: the similarity of an answer and its passages by vectors, not word by word.

It is for paraphrases, which share few words with the passages. Vectors hardly reflect a changed number or name, or a
negation: those are checked separately.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from poise.scoring.evidence import Evidence
from poise.scoring.tokenization import is_negated, sentences

if TYPE_CHECKING:
    from poise.embedding import Vector

_MAX_EVIDENCE_SENTENCES: Final = 256
"""Sentences of the best passages that are compared; embedding each takes about 10 ms the first time."""
_MAX_ANSWER_SENTENCES: Final = 64
"""Sentences of an answer that are compared with each sentence of the passages."""

Embed = Callable[[str], "Vector"]
"""Returns the vector of a text, of unit length. It should cache: searches find the same passages repeatedly."""


class SemanticComparison(NamedTuple):
    """The semantic similarity of an answer and its passages."""

    near: float
    """The cosine of question plus sentence and the nearest sentence of a passage; of all sentences, the lowest."""
    denied: float
    """The highest cosine of a sentence and its nearest sentence of a passage if only one of them is negated; 0 = none.

    A near-verbatim but negated sentence is wrong; between dissimilar sentences, a difference in negation tells little.
    """


def compare_by_meaning(answer: str, evidence: Evidence, question: str, embed: Embed) -> SemanticComparison:
    """Compare the sentences of an answer with those of its passages (as Sentence-BERT, Reimers and Gurevych, 2019).

    A sentence is embedded together with the question, because many ("It leaves the loop") say little alone.

    Args:
        answer: The text to score.
        evidence: The passages that should support it.
        question: The question that it answers.
        embed: Returns vectors; takes about 10 ms of CPU for a text that it has not cached.
    """
    lines = {line.text: embed(line.text) for line in evidence.lines[:_MAX_EVIDENCE_SENTENCES]}
    near, denied = list[float](), 0.0
    for sentence in sentences(answer)[:_MAX_ANSWER_SENTENCES] if lines else ():
        whole, alone = embed(f"{question} {sentence}"), embed(sentence)
        near.append(max(float(whole @ line) for line in lines.values()))
        cosine, nearest = max((float(alone @ line), text) for text, line in lines.items())
        if is_negated(sentence) != is_negated(nearest):
            denied = max(denied, cosine)
    return SemanticComparison(min(near, default=0.0), denied)
