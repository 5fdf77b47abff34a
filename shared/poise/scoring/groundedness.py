"""Groundedness: whether the passages bear what an answer says."""

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
"""What is left of a sentence's score when it names a number, identifier or name that the passages do not bear."""
CONTRADICTED: Final = 0.8
"""What is left when a sentence denies what its evidence affirms, or the other way about."""
ECHO: Final = 0.3
"""What is left when a sentence only repeats the question."""
_CANDIDATE_WINDOWS: Final = 4
"""How many windows, those that have most of a sentence's words, are compared word by word."""
_MAX_WEIGHED_WINDOWS: Final = 32
"""How many windows are weighed exactly, of those that have as many of a sentence's words, as far as can be told."""
_MAX_OCCURRENCES: Final = 16
"""How often a word is looked for in one window: writing says it twice or thrice there."""
_MAX_FACTS: Final = 40
"""Names and numbers of one sentence that are looked up."""
_CACHE_SIZE: Final = 16_384
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
    turned: float = 0.0
    """How much of a sentence is borne by one that says the opposite, 0 to 1; of several, the most."""


@dataclass(frozen=True, slots=True)
class _Support:
    score: float
    line: EvidenceSentence | None = None
    unknown: tuple[str, ...] = ()
    turned: float = 0.0


@dataclass(frozen=True, slots=True)
class _Window:
    """A sentence of a passage, and the one after it."""

    line: EvidenceSentence
    stems: tuple[str, ...]
    text: str
    shared: frozenset[str]
    """Which of the words that are looked for it has."""


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
    return Groundedness(
        score=min((support.score for support in found), default=0.0),
        citations=tuple(citations),
        unknown=tuple(unknown),
        turned=max((support.turned for support in found), default=0.0),
    )


def _support(sentence: str, evidence: Evidence, question: str) -> _Support:
    said = stems(sentence)
    told = [(stem, evidence.weight(stem)) for stem in said]
    whole, pairs = math.fsum([weight for _, weight in told]) or 1.0, list(pairwise(said))
    score, window = 0.0, None
    for candidate in _windows(told, evidence):
        in_both = [one for one in told if one[0] in candidate.shared]
        # Upper bound: `_common_subsequence_weight` adds some of the same numbers, in the same order, so that a skipped
        # candidate cannot score higher.
        at_most = reduce(add, [weight for _, weight in in_both], 0.0) / whole
        if window is not None and (at_most + 1.0) / 2 <= score:
            continue
        beside = _bigram_overlap(said, pairs, candidate.stems)
        if window is not None and (at_most + beside) / 2 <= score:
            continue
        borne = (_common_subsequence_weight(in_both, candidate.stems) / whole + beside) / 2
        if window is None or borne > score:
            score, window = borne, candidate
    if window is None:
        return _Support(0.0)
    named = [fact for fact in checkable_facts(sentence)[:_MAX_FACTS] if fact not in question]
    near = frozenset(words(window.text)) if any(fact[0].isdigit() for fact in named) else frozenset[str]()
    unknown = tuple(fact for fact in named if not _is_supported(fact, near, evidence))
    turned = score if is_negated(sentence) != _is_negated(window.line.sentence) else 0.0
    if unknown:
        score *= UNKNOWN_FACT
    if turned:
        score *= CONTRADICTED
    if set(said) <= set(stems(question)):
        score *= ECHO
    return _Support(score, window.line, unknown, turned)


@lru_cache(_CACHE_SIZE)
def _is_negated(sentence: str) -> bool:
    """Whether a sentence of a passage says no."""
    return is_negated(sentence)


def _windows(told: Sequence[tuple[str, float]], evidence: Evidence) -> list[_Window]:
    """The windows that have most of what is said, best first; of two with as much, that whose first line has more."""
    weights = dict(told)
    wanted, about = frozenset(weights), evidence.windows(weights.items())
    least = max(_ROUNDING, min(sorted(about.values())[-_CANDIDATE_WINDOWS:], default=0.0) - _ROUNDING)
    ranked: list[tuple[float, float, _Window]] = []
    for number in sorted([number for number, weight in about.items() if weight >= least])[:_MAX_WEIGHED_WINDOWS]:
        window = _window(evidence, *evidence.place(number), wanted)
        alone = evidence.weigh(window.line.vocabulary & wanted)
        ranked.append((evidence.weigh(window.shared), alone, window))
    return [window for _, _, window in nlargest(_CANDIDATE_WINDOWS, ranked, key=lambda item: item[:2])]


def _window(evidence: Evidence, rank: int, index: int, wanted: frozenset[str]) -> _Window:
    line, following = evidence.line(rank, index), evidence.texts[rank].sentences[index + 1 : index + 2]
    there, text, shared = line.stems, line.sentence, line.vocabulary & wanted
    for after in following:
        there, text, shared = there + after.stems, f"{text} {after.sentence}", shared | after.vocabulary & wanted
    return _Window(line, there, text, shared)


def _common_subsequence_weight(told: Sequence[tuple[str, float]], there: Sequence[str]) -> float:
    """How much the words tell that stand there in the order in which they are said.

    The heaviest common subsequence (Jacobson and Vo, "Heaviest increasing/common subsequence problems", 1992): of the
    subsequences that were found, those are kept that no other which ends as soon outweighs.

    Args:
        told: Words, and how much each tells; one that is not there changes nothing.
        there: Where they are looked for.
    """
    places: dict[str, list[int]] = {stem: [] for stem, _ in told}
    for place in range(len(there) - 1, -1, -1):
        if there[place] in places and len(places[there[place]]) < _MAX_OCCURRENCES:
            places[there[place]].append(place)
    ends, sums = [-1], [0.0]  # both rise
    for stem, weight in told:
        for place in places[stem]:  # the last first, so that none follows upon itself
            at = bisect_left(ends, place)
            total, over = sums[at - 1] + weight, at
            while over < len(sums) and sums[over] <= total:
                over += 1
            if over > at or at == len(ends) or ends[at] > place:
                ends[at:over], sums[at:over] = [place], [total]
    return sums[-1]


def _bigram_overlap(said: Sequence[str], pairs: Sequence[tuple[str, str]], there: Sequence[str]) -> float:
    """The share of neighbouring words that are neighbours there too, 0 to 1; of a single word, whether it is there."""
    if not pairs:
        return float(set(said) <= set(there))
    found = set(pairwise(there))
    return sum([pair in found for pair in pairs]) / len(pairs)


def _is_supported(fact: str, near: Collection[str], evidence: Evidence) -> bool:
    """Numbers say nothing elsewhere: they must stand in the window. A name is known or it is not."""
    return fact in near if fact[0].isdigit() else evidence.mentions(fact)
