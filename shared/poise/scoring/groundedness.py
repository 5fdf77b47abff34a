"""Groundedness: whether the passages support an answer."""

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from heapq import nlargest
from itertools import pairwise
from operator import add
from typing import Final

from poise.contracts import Citation
from poise.scoring.evidence import Evidence, EvidenceSentence
from poise.scoring.tokenization import checkable_facts, is_negated, sentences, stems, words

UNKNOWN_FACT: Final = 0.5
"""Factor for a sentence with a number, identifier or name that the passages do not support."""
CONTRADICTED: Final = 0.8
"""Factor for a sentence that negates what its evidence affirms, or affirms what it negates."""
ECHO: Final = 0.3
"""Factor for a sentence that only repeats the question."""
_CANDIDATE_WINDOWS: Final = 4
"""Windows that are compared word by word: those with most of a sentence's words."""
_MAX_WEIGHED_WINDOWS: Final = 32
"""Windows that are weighed exactly, if more have the same weight up to rounding errors."""
_MAX_OCCURRENCES: Final = 16
"""Occurrences of a word in a window that count; prose rarely has more than three."""
_MAX_FACTS: Final = 40
"""Facts of one sentence that are looked up."""
_CACHE_SIZE: Final = 16_384
"""Sentences of passages whose negation is cached."""
_ROUNDING: Final = 1e-9
"""An upper bound of the difference between sums of the same numbers in another order."""


@dataclass(frozen=True, slots=True)
class Groundedness:
    """How well the passages support an answer."""

    score: float
    """0 to 1: the score of the least supported sentence, because one made-up sentence spoils an answer."""
    citations: tuple[Citation, ...]
    """For each sentence, the sentence of a passage that supports it best, without duplicates."""
    unknown: tuple[str, ...]
    """Unsupported facts: numbers that are not in the cited sentences, and names that are not in any passage."""
    turned: float = 0.0
    """The highest support of a sentence by one that says the opposite, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Support:
    score: float
    line: EvidenceSentence | None = None
    unknown: tuple[str, ...] = ()
    turned: float = 0.0


@dataclass(frozen=True, slots=True)
class _Window:
    """A sentence of a passage and the next one."""

    line: EvidenceSentence
    stems: tuple[str, ...]
    text: str
    shared: frozenset[str]
    """The words of the answer's sentence that it contains."""


def groundedness(answer: str, evidence: Evidence, *, question: str = "") -> Groundedness:
    """Score an answer by lexical evidence, sentence by sentence.

    A sentence's score is the mean of two values in the window of two sentences that supports it best: the weighted
    share of its words that occur there in the same order (longest common subsequence: the precision of ROUGE-L, Lin,
    2004), and the share of its bigrams (ROUGE-2). A small model makes things up from the passages' own words, so word
    order tells more than vocabulary. The score is lowered for unsupported facts (entity precision: Nan et al.,
    "Entity-level Factual Consistency of Abstractive Text Summarization", 2021), for contradicting the evidence, and
    for repeating the question.

    Args:
        answer: The text to score; an empty one scores 0.
        evidence: The passages that should support it.
        question: The question that it answers.
    """
    found = [_support(sentence, evidence, question) for sentence in sentences(answer)]
    citations = dict.fromkeys(support.line.citation for support in found if support.line is not None)
    unknown = dict.fromkeys(fact for support in found for fact in support.unknown)
    return Groundedness(
        score=min((support.score for support in found), default=0.0),
        citations=tuple(citations),
        unknown=tuple(unknown),
        turned=max((support.turned for support in found), default=0.0),
    )


def _support(sentence: str, evidence: Evidence, question: str) -> _Support:
    in_order = stems(sentence)
    weighted = [(stem, evidence.weight(stem)) for stem in in_order]
    whole, pairs = math.fsum([weight for _, weight in weighted]) or 1.0, list(pairwise(in_order))
    score, window = 0.0, None
    for candidate in _windows(weighted, evidence):
        in_both = [one for one in weighted if one[0] in candidate.shared]
        # Upper bound: `_common_subsequence_weight` adds some of the same numbers, in the same order, so that a skipped
        # candidate cannot score higher.
        at_most = reduce(add, [weight for _, weight in in_both], 0.0) / whole
        if window is not None and (at_most + 1.0) / 2 <= score:
            continue
        beside = _bigram_overlap(in_order, pairs, candidate.stems)
        if window is not None and (at_most + beside) / 2 <= score:
            continue
        support = (_common_subsequence_weight(in_both, candidate.stems) / whole + beside) / 2
        if window is None or support > score:
            score, window = support, candidate
    if window is None:
        return _Support(0.0)
    named = [fact for fact in checkable_facts(sentence)[:_MAX_FACTS] if fact not in question]
    near = frozenset(words(window.text)) if any(fact[0].isdigit() for fact in named) else frozenset[str]()
    unknown = tuple(fact for fact in named if not _is_supported(fact, near, evidence))
    turned = score if is_negated(sentence) != _is_negated(window.line.text) else 0.0
    if unknown:
        score *= UNKNOWN_FACT
    if turned:
        score *= CONTRADICTED
    if set(in_order) <= set(stems(question)):
        score *= ECHO
    return _Support(score, window.line, unknown, turned)


@lru_cache(_CACHE_SIZE)
def _is_negated(sentence: str) -> bool:
    """Return whether a sentence of a passage is negated."""
    return is_negated(sentence)


def _windows(weighted: Sequence[tuple[str, float]], evidence: Evidence) -> list[_Window]:
    """Return the windows with the highest weight of shared words, best first; ties go to the better first sentence."""
    weights = dict(weighted)
    wanted, about = frozenset(weights), evidence.windows(weights.items())
    least = max(_ROUNDING, min(sorted(about.values())[-_CANDIDATE_WINDOWS:], default=0.0) - _ROUNDING)
    ranked: list[tuple[float, float, _Window]] = []
    for number in sorted([number for number, weight in about.items() if weight >= least])[:_MAX_WEIGHED_WINDOWS]:
        window = _window(evidence, *evidence.locate(number), wanted)
        alone = evidence.weigh(window.line.vocabulary & wanted)
        ranked.append((evidence.weigh(window.shared), alone, window))
    return [window for _, _, window in nlargest(_CANDIDATE_WINDOWS, ranked, key=lambda item: item[:2])]


def _window(evidence: Evidence, rank: int, index: int, wanted: frozenset[str]) -> _Window:
    line, following = evidence.line(rank, index), evidence.texts[rank].sentences[index + 1 : index + 2]
    there, text, shared = line.stems, line.text, line.vocabulary & wanted
    for after in following:
        there, text, shared = there + after.stems, f"{text} {after.text}", shared | after.vocabulary & wanted
    return _Window(line, there, text, shared)


def _common_subsequence_weight(weighted: Sequence[tuple[str, float]], there: Sequence[str]) -> float:
    """Return the weight of the heaviest common subsequence of two sequences of words.

    The algorithm is that of Jacobson and Vo, "Heaviest increasing/common subsequence problems", 1992: a subsequence is
    dropped if another one ends no later and weighs more.

    Args:
        weighted: Words in order, with their weights; words that are not in `there` make no difference.
        there: The other sequence.
    """
    positions: dict[str, list[int]] = {stem: [] for stem, _ in weighted}
    for position in range(len(there) - 1, -1, -1):
        if there[position] in positions and len(positions[there[position]]) < _MAX_OCCURRENCES:
            positions[there[position]].append(position)
    ends, sums = [-1], [0.0]  # both ascending
    for stem, weight in weighted:
        for position in positions[stem]:  # the last first, so that no occurrence follows itself
            at = bisect_left(ends, position)
            total, over = sums[at - 1] + weight, at
            while over < len(sums) and sums[over] <= total:
                over += 1
            if over > at or at == len(ends) or ends[at] > position:
                ends[at:over], sums[at:over] = [position], [total]
    return sums[-1]


def _bigram_overlap(words_in_order: Sequence[str], pairs: Sequence[tuple[str, str]], there: Sequence[str]) -> float:
    """Return the share of bigrams that are also in `there`, 0 to 1; for a single word, whether it is there."""
    if not pairs:
        return float(set(words_in_order) <= set(there))
    found = set(pairwise(there))
    return sum([pair in found for pair in pairs]) / len(pairs)


def _is_supported(fact: str, near: Collection[str], evidence: Evidence) -> bool:
    """Return whether a fact is supported: a number must be in the window, a name anywhere in the passages."""
    return fact in near if fact[0].isdigit() else evidence.mentions(fact)
