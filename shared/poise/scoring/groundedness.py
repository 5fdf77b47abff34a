"""Groundedness: whether the passages bear what an answer says."""

from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest
from itertools import pairwise
from typing import Final

from poise.contracts import Citation
from poise.scoring.evidence import Evidence, Line
from poise.scoring.text import facts, negated, sentences, stems, words

UNKNOWN_FACT: Final = 0.5
"""What is left of a sentence's score when it names a number, identifier or name that the passages do not bear."""
TURNED_ROUND: Final = 0.8
"""What is left when a sentence denies what its evidence affirms, or the other way about."""
ECHO: Final = 0.3
"""What is left when a sentence only repeats the question."""
_READ_CLOSELY: Final = 4
"""How many windows, those that have most of a sentence's words, are compared word by word."""


_REMEMBERED: Final = 16_384
"""Sentences of passages of which it is kept whether they say no."""
_ROUNDING: Final = 1e-9
"""More than sums of the same numbers in another order differ by."""


@dataclass(frozen=True, slots=True)
class Groundedness:
    """How well an answer is borne by its passages."""

    score: float
    """0 to 1: that of the sentence that is borne least, for one made-up sentence spoils an answer."""
    citations: tuple[Citation, ...]
    """For each sentence, the line of a passage that bears it best; each once."""
    unknown: tuple[str, ...]
    """What the answer names and the passages do not bear: numbers that are not where it is cited from, other names."""


@dataclass(frozen=True, slots=True)
class _Support:
    score: float
    line: Line | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Window:
    """A sentence of a passage, and the one after it."""

    line: Line
    stems: tuple[str, ...]
    text: str


def groundedness(answer: str, evidence: Evidence, *, question: str = "") -> Groundedness:
    """Judge an answer by lexical evidence, sentence by sentence.

    In the window of two sentences of a passage that bears it best: how much of the sentence stands there in the same
    order (longest common subsequence, words weighted by how much they tell: the precision of ROUGE-L, Lin, 2004), and
    how many of its pairs of neighbouring words (of ROUGE-2); half and half. A small model makes things up out of the
    passages' own words, so how they are put together tells more than which they are. Lowered for facts that are not
    borne (entity precision: Nan et al., "Entity-level Factual Consistency of Abstractive Text Summarization", 2021),
    for denying what the evidence affirms, and for an echo of the question, which proves nothing.

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
    said = stems(sentence)
    score, window = 0.0, None
    for candidate in _windows(said, evidence):
        beside = _side_by_side(said, candidate.stems)
        if window is not None and (_at_most(said, candidate.stems, evidence) + beside) / 2 < score - _ROUNDING:
            continue
        borne = (_in_order(said, candidate.stems, evidence) + beside) / 2
        if window is None or borne > score:
            score, window = borne, candidate
    if window is None:
        return _Support(0.0)
    unknown = tuple(fact for fact in facts(sentence) if fact not in question and not _borne(fact, window, evidence))
    if unknown:
        score *= UNKNOWN_FACT
    if negated(sentence) != _denies(window.line.sentence):
        score *= TURNED_ROUND
    if set(said) <= set(stems(question)):
        score *= ECHO
    return _Support(score, window.line, unknown)


@lru_cache(_REMEMBERED)
def _denies(sentence: str) -> bool:
    """Whether a sentence of a passage says no."""
    return negated(sentence)


def _windows(said: list[str], evidence: Evidence) -> list[_Window]:
    """The windows that have most of what is said, best first; of two with as much, that whose first line has more."""
    wanted = frozenset(said)
    shared = [wanted & line.vocabulary for line in evidence.lines]
    ranked: list[tuple[float, float, int, Line | None]] = []
    for place, alone in enumerate(shared):
        line = evidence.lines[place]
        after = evidence.after(line)
        together = alone if after is None else alone | shared[place + 1]
        if together:
            ranked.append((evidence.weigh(together), evidence.weigh(alone), place, after))
    best = nlargest(_READ_CLOSELY, ranked, key=lambda item: item[:2])
    return [_window(evidence.lines[place], after) for _, _, place, after in best]


def _window(line: Line, after: Line | None) -> _Window:
    if after is None:
        return _Window(line, line.stems, line.sentence)
    return _Window(line, line.stems + after.stems, f"{line.sentence} {after.sentence}")


def _at_most(said: list[str], there: tuple[str, ...], evidence: Evidence) -> float:
    """What `_in_order` cannot exceed: the weighted share of the words that stand there, in whatever order."""
    return evidence.weigh(stem for stem in said if stem in there) / (evidence.weigh(said) or 1.0)


def _in_order(said: list[str], there: tuple[str, ...], evidence: Evidence) -> float:
    """The weighted share of the words that stand there in the order in which they are said, 0 to 1."""
    in_both = set(said).intersection(there)  # the others change nothing: without them the table is a tenth
    columns = [stem for stem in there if stem in in_both]
    best = [0.0] * (len(columns) + 1)
    for stem in said:
        if stem not in in_both:
            continue
        weight, before, last = evidence.weight(stem), best, 0.0
        best = [last]
        for place, other in enumerate(columns):
            if stem == other:
                last = before[place] + weight
            elif before[place + 1] > last:
                last = before[place + 1]
            best.append(last)
    return best[-1] / (evidence.weigh(said) or 1.0)


def _side_by_side(said: list[str], there: tuple[str, ...]) -> float:
    """The share of neighbouring words that are neighbours there too, 0 to 1; of a single word, whether it is there."""
    if len(said) < 2:  # noqa: PLR2004 - a pair
        return float(set(said) <= set(there))
    pairs = set(pairwise(there))
    return sum(pair in pairs for pair in pairwise(said)) / (len(said) - 1)


def _borne(fact: str, window: _Window, evidence: Evidence) -> bool:
    """Numbers say nothing elsewhere: they must stand in the window. A name is known or it is not."""
    return fact in words(window.text) if fact[0].isdigit() else evidence.knows(fact)
