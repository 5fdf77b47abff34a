"""Evidence: the sentences of passages, and the inverse document frequency of their words."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Final, NamedTuple

from poise.contracts import Citation, Passage
from poise.scoring.tokenization import cached_by_text, collapse_whitespace, stems, words
from poise.scoring.tokenization import sentences as sentences_of

_CACHE_SIZE: Final = 2_048
"""Parsed texts in the cache: searches find the same passages repeatedly."""
_MAX_CACHED_CHARS: Final = 4_000
"""Maximum characters of a cached text; its parsed form takes about ten times as much memory."""
_MAX_WINDOWS: Final = 256
"""Windows in which a word is looked up, those of the best passages; a word in more windows is not informative."""


class ParsedSentence(NamedTuple):
    """A parsed sentence."""

    text: str
    stems: tuple[str, ...]
    vocabulary: frozenset[str]
    length: int


class ParsedText(NamedTuple):
    """The parsed text of a passage."""

    sentences: tuple[ParsedSentence, ...]
    occurrences: dict[str, list[int]]
    """By stem, the sentences that contain it."""
    windows: dict[str, list[int]]
    """By stem, the sentences that contain it or precede one that does."""


# Not frozen: several are created for each run, and a frozen one is slower to create.
@dataclass(slots=True, repr=False, unsafe_hash=True)
class EvidenceSentence:
    """A sentence of a passage; must not be changed."""

    passage: Passage
    rank: int
    """The rank of the passage, 0 = best."""
    index: int
    """The index of the sentence in its passage."""
    text: str
    stems: tuple[str, ...]
    """The stems of its words, in order."""
    vocabulary: frozenset[str]
    """The set of its stems."""
    length: int
    """The number of its words."""

    def __repr__(self) -> str:
        """Return the identity of the sentence, without its vocabulary, whose order differs between processes."""
        return f"EvidenceSentence({self.passage.id!r}, {self.rank}, {self.index}, {self.text!r})"

    @property
    def citation(self) -> Citation:
        """This sentence as a citation."""
        return Citation(source=self.passage.source, passage=self.passage.id, quote=self.text)


class Evidence:
    """Parsed passages.

    Words are weighted by inverse document frequency over the sentences (Spärck Jones, 1972): a word that is in all of
    them weighs next to nothing.

    Args:
        passages: Best first.
    """

    texts: tuple[ParsedText, ...]
    """The parsed texts by rank."""
    headings: tuple[frozenset[str], ...]
    """By rank, the stems of the headings above the passage."""
    _starts: tuple[int, ...]
    """By rank, the number of sentences in the preceding passages; finally, the number of all sentences."""
    _weights: "_IdfWeights"

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)

    def __reduce__(self) -> tuple[type["Evidence"], tuple[tuple[Passage, ...]]]:
        """Pickle the passages only; the other process parses them."""
        return Evidence, (self.passages,)

    @property
    def size(self) -> int:
        """The number of characters to parse."""
        return sum([len(passage.text) + len(passage.heading or "") for passage in self.passages])

    def __getattr__(self, name: str) -> Any:
        """Parse the passages at the first access, so that evidence for another process is not parsed here."""
        if name not in {"texts", "headings", "_starts", "_weights"}:
            raise AttributeError(name)
        self.texts = tuple([_parse(passage.text) for passage in self.passages])
        self.headings = tuple([_heading_stems(passage.heading or "") for passage in self.passages])
        self._starts = tuple(accumulate([len(text.sentences) for text in self.texts], initial=0))
        self._weights = _IdfWeights([text.occurrences for text in self.texts], self._starts[-1])
        return getattr(self, name)

    def weight(self, stem: str) -> float:
        """Return the weight of a word: higher for words in fewer sentences, highest for words in none."""
        return self._weights[stem]

    def weigh(self, some: Iterable[str]) -> float:
        """Return the total weight of words; the sum is exact, so that the order of a set makes no difference."""
        return math.fsum(map(self._weights.__getitem__, some))

    def containment(self, some: Iterable[str], within: frozenset[str]) -> float:
        """Return the weighted share of words that are among others, 0 to 1 (containment, Broder 1997)."""
        wanted = set(some)
        return self.weigh(wanted & within) / (self.weigh(wanted) or 1.0)

    def mentions(self, fact: str) -> bool:
        """Return whether a number, identifier or name occurs in the passages or their headings."""
        return any(fact.lower() in known or fact in whole for whole, known in self._known)

    def shares_words_with(self, question: str) -> bool:
        """Return whether any word of a question, except stop words, is in the passages or their headings."""
        return any(
            any(stem in text.occurrences for text in self.texts) or any(stem in heading for heading in self.headings)
            for stem in stems(question)
        )

    def windows(self, some: Iterable[tuple[str, float]]) -> dict[int, float]:
        """Return the total weight of words in each window of two sentences that contains any, with rounding errors.

        Args:
            some: Distinct words and their weights.

        Returns:
            Weights by the number of the first sentence among all sentences, as `locate` expects it.
        """
        weighted, found = tuple(some), dict[int, float]()
        few = self._starts[-1] <= _MAX_WINDOWS
        left = {} if few else dict.fromkeys([stem for stem, _ in weighted], _MAX_WINDOWS)
        for start, text in zip(self._starts, self.texts, strict=False):
            windows = text.windows
            for stem, weight in weighted:
                if stem in windows:
                    starts = windows[stem]
                    if not few:
                        starts = starts[: left[stem]]
                        left[stem] -= len(starts)
                    for index in starts:
                        number = start + index
                        found[number] = found.get(number, 0.0) + weight
        return found

    def locate(self, number: int) -> tuple[int, int]:
        """Return the rank of a sentence's passage and the index of the sentence there, given its number among all."""
        rank = bisect_right(self._starts, number) - 1
        return rank, number - self._starts[rank]

    def line(self, rank: int, index: int) -> EvidenceSentence:
        """Return a sentence of a passage."""
        return EvidenceSentence(self.passages[rank], rank, index, *self.texts[rank].sentences[index])

    @cached_property
    def lines(self) -> tuple[EvidenceSentence, ...]:
        """All sentences, by rank and index."""
        return tuple(
            self.line(rank, index) for rank, text in enumerate(self.texts) for index in range(len(text.sentences))
        )

    @cached_property
    def _known(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple(_flat_text_and_words(f"{passage.heading or ''}\n{passage.text}") for passage in self.passages)


class _IdfWeights(dict[str, float]):
    """The weight of each word, computed at the first access."""

    def __init__(self, occurrences: Sequence[Mapping[str, Sequence[int]]], lines: int) -> None:
        super().__init__()
        self._occurrences = occurrences
        self._lines = lines

    def __missing__(self, stem: str) -> float:
        frequency = 0
        for occurrences in self._occurrences:
            if stem in occurrences:
                frequency += len(occurrences[stem])
        weight = self[stem] = math.log(1 + (self._lines + 1) / (frequency + 0.5))
        return weight


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _parse(text: str) -> ParsedText:
    """Return the sentences of a text and the positions of its words."""
    found = tuple(
        ParsedSentence(sentence, in_order := stems(sentence), frozenset(in_order), len(words(sentence)))
        for sentence in sentences_of(text)
    )
    occurrences: dict[str, list[int]] = {}
    for index, read in enumerate(found):
        for stem in read.vocabulary:
            occurrences.setdefault(stem, []).append(index)
    windows = {stem: sorted({*some, *(index - 1 for index in some if index)}) for stem, some in occurrences.items()}
    return ParsedText(found, occurrences, windows)


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _heading_stems(heading: str) -> frozenset[str]:
    return frozenset(stems(heading))


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _flat_text_and_words(text: str) -> tuple[str, frozenset[str]]:
    """Return a text on one line, and its words."""
    whole = collapse_whitespace(text)
    return whole, frozenset(words(whole))
