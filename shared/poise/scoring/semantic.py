"""Meaning: how near an answer stands to its passages when they are compared by vectors, not word by word.

For answers in words of their own, of which a comparison by words finds little. A vector does not see a changed number
or name, and hardly a denial: those are looked for beside it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from poise.scoring.evidence import Evidence
from poise.scoring.tokenization import is_negated, sentences

if TYPE_CHECKING:
    from poise.embedding import Vector

_MAX_EVIDENCE_SENTENCES: Final = 256
"""Lines, those of the best passages, that are compared: each costs some 10 ms the first time."""
_MAX_ANSWER_SENTENCES: Final = 64
"""Sentences of an answer that are compared with each line."""

Embed = Callable[[str], "Vector"]
"""What makes the vector of a text, of unit length; it remembers, for passages are found again."""


class SemanticComparison(NamedTuple):
    """How an answer compares by meaning."""

    near: float
    """The cosine of the nearest line of a passage to the question and a sentence together; of the farthest sentence."""
    denied: float
    """The cosine of a sentence and the line that it denies: the nearest, one says no and the other does not; 0: none.

    Of several, the most. What is said nearly word for word and denied is wrong; of what stands far off, that one says
    no and the other does not tells little.
    """


def compare_by_meaning(answer: str, evidence: Evidence, question: str, embed: Embed) -> SemanticComparison:
    """Compare an answer's sentences with its passages' lines (as Sentence-BERT does, Reimers and Gurevych, 2019).

    A sentence is taken together with the question, for many ("It leaves the loop") say little by themselves.

    Args:
        answer: What is judged.
        evidence: Of the passages that it should rest on.
        question: What it answers.
        embed: What makes vectors; takes some 10 ms of CPU for a text that it does not remember.
    """
    lines = {line.sentence: embed(line.sentence) for line in evidence.lines[:_MAX_EVIDENCE_SENTENCES]}
    near, denied = list[float](), 0.0
    for sentence in sentences(answer)[:_MAX_ANSWER_SENTENCES] if lines else ():
        whole, alone = embed(f"{question} {sentence}"), embed(sentence)
        near.append(max(float(whole @ line) for line in lines.values()))
        cosine, nearest = max((float(alone @ line), said) for said, line in lines.items())
        if is_negated(sentence) != is_negated(nearest):
            denied = max(denied, cosine)
    return SemanticComparison(min(near, default=0.0), denied)
