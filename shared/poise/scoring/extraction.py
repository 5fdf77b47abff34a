"""Extraction: the sentences of the passages that are most relevant to a question.

The relevance of a sentence is the weighted share of the question's words in it (query-biased sentence selection:
Tombros and Sanderson, "Advantages of Query Biased Summaries in Information Retrieval", 1998). A sentence may refer to a
word ("It terminates the loop") that is in its heading or in the previous sentence: such words count less. Further
criteria are the rank of the passage, the position of the sentence in it (the lead matters most: Brandow, Mitze and Rau,
1995), and whether the sentence is about the topic of the question or mentions it in passing. The numbers were chosen by
hand on half of the questions of tests/benchmarks/answers.toml.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappush, heappushpop
from typing import Final, NamedTuple

from poise.scoring.evidence import Evidence, EvidenceSentence, ParsedText
from poise.scoring.tokenization import stems

_HEADING_WEIGHT: Final = 0.8
_PREVIOUS_SENTENCE_WEIGHT: Final = 0.5
_TOPIC_BONUS: Final = 0.1
"""Bonus of a sentence that begins with a word of the question."""
_CONDITION_PENALTY: Final = 0.15
"""Penalty of a sentence that begins with a condition if the question asks about none."""
_RANK_PENALTY: Final = 0.06
_POSITION_PENALTY: Final = 0.02
_MAX_PENALISED_POSITION: Final = 5
_UNINFORMATIVE_FACTOR: Final = 0.3
"""Factor for a title, a signature, or an echo of the question."""
_UNFINISHED_FACTOR: Final = 0.7
"""Factor for a text that does not end like a sentence, or that announces the text after it."""
_LONG_FACTOR: Final = 0.9
_MIN_WORDS: Final = 4
_MAX_WORDS: Final = 45
_CONDITION: Final = re.compile(
    r"(?:when|if|unless|although|while|because|however|for example|note|see|also|changed in|new in|deprecated)\b",
    re.IGNORECASE,
)
_ASKS_ABOUT_CONDITION: Final = re.compile(r"\b(?:when|if|happens)\b", re.IGNORECASE)
_FINISHED: Final = re.compile(r"[.!?)\"”][*_`]*$")
_SESSIONS: Final = (">>>", "$ ")
_CACHE_SIZE: Final = 16_384
"""Sentences whose shape is cached: searches find the same passages repeatedly."""


@dataclass(frozen=True, slots=True)
class _Question:
    weights: dict[str, float]
    """Its stems in order, with their weights."""
    whole: float
    """The total weight."""
    about_condition: bool


def extract_sentences(question: str, evidence: Evidence, number: int) -> list[EvidenceSentence]:
    """Return the most relevant sentences, best first, at most `number`; irrelevant sentences are never returned."""
    weights = {stem: evidence.weight(stem) for stem in stems(question)}
    asked = _Question(weights, evidence.weigh(weights) or 1.0, bool(_ASKS_ABOUT_CONDITION.search(question)))
    order: list[tuple[EvidenceSentence, float]] = []
    best: list[float] = []  # the `number` highest values in `order`, as a heap
    for rank, text in enumerate(evidence.texts):
        most = _TOPIC_BONUS - _RANK_PENALTY * rank
        for index, found in enumerate(_coverage(asked, text, evidence.headings[rank])):
            covered = found / asked.whole
            if covered <= 0 or (best and len(best) >= number and covered + most <= best[0]):
                continue  # irrelevant, or not among the best even with a shape factor of 1
            line = evidence.line(rank, index)
            value = covered * _shape_factor(asked, line) + _position_bonus(asked, line)
            order.append((line, value))
            (heappush if len(best) < number else heappushpop)(best, value)
    order.sort(key=lambda item: -item[1])
    return [line for line, _ in order[:number]]


def _coverage(asked: _Question, text: ParsedText, heading: Collection[str]) -> list[float]:
    """Return the weight of the question's words in each sentence.

    Words in the heading or the previous sentence count at a lower weight. Words are looked up by their positions, so
    that the costs of a long question and a long text are not multiplied.
    """
    sentences, occurrences = text.sentences, text.occurrences
    found, last = [0.0] * len(sentences), len(sentences) - 1
    for stem, weight in asked.weights.items():
        if stem in heading:
            less = _HEADING_WEIGHT * weight
            found = [
                so_far + (weight if stem in sentence.vocabulary else less)
                for so_far, sentence in zip(found, sentences, strict=True)
            ]
        elif stem in occurrences:
            for index in occurrences[stem]:
                found[index] += weight
                if index < last and stem not in sentences[index + 1].vocabulary:
                    found[index + 1] += _PREVIOUS_SENTENCE_WEIGHT * weight
    return found


def _shape_factor(asked: _Question, line: EvidenceSentence) -> float:
    """Return the factor for the shape of a sentence."""
    factor, shape = 1.0, _shape(line.text)
    if line.length < _MIN_WORDS or line.vocabulary <= asked.weights.keys() or shape.session:
        factor *= _UNINFORMATIVE_FACTOR
    if not shape.finished:
        factor *= _UNFINISHED_FACTOR
    if line.length > _MAX_WORDS:
        factor *= _LONG_FACTOR
    return factor


def _position_bonus(asked: _Question, line: EvidenceSentence) -> float:
    """Return the bonus or penalty for the position and the opening of a sentence."""
    bonus = _TOPIC_BONUS if line.stems and line.stems[0] in asked.weights else 0.0
    if not asked.about_condition and _shape(line.text).conditional:
        bonus -= _CONDITION_PENALTY
    return bonus - _RANK_PENALTY * line.rank - _POSITION_PENALTY * min(line.index, _MAX_PENALISED_POSITION)


class _Shape(NamedTuple):
    session: bool
    finished: bool
    conditional: bool


@lru_cache(_CACHE_SIZE)
def _shape(sentence: str) -> _Shape:
    """Return the properties of a sentence that do not depend on the question."""
    return _Shape(sentence.startswith(_SESSIONS), bool(_FINISHED.search(sentence)), bool(_CONDITION.match(sentence)))
