"""Evidence: the sentences of some passages, and how much each word tells among them."""

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
"""Texts of passages whose reading is kept: the same ones are found again and again."""
_MAX_CACHED_CHARS: Final = 4_000
"""Characters of such a text; what is read of it takes some ten times as much."""
_MAX_WINDOWS: Final = 256
"""Windows in which a word is looked for, those of the best passages; what stands in more of them tells nothing."""


class ParsedSentence(NamedTuple):
    """A sentence, read."""

    sentence: str
    stems: tuple[str, ...]
    vocabulary: frozenset[str]
    length: int


class ParsedText(NamedTuple):
    """A passage's text, read."""

    sentences: tuple[ParsedSentence, ...]
    places: dict[str, list[int]]
    """By stem, the sentences that have it."""
    windows: dict[str, list[int]]
    """By stem, the sentences that have it or are followed by one that has."""


# Not frozen: some are made for each run, and a frozen one is slower to make.
@dataclass(slots=True, repr=False, unsafe_hash=True)
class EvidenceSentence:
    """One sentence of a passage; not to be changed."""

    passage: Passage
    rank: int
    """The passage's place among those retrieved, 0 = best."""
    index: int
    """The sentence's place in its passage."""
    sentence: str
    stems: tuple[str, ...]
    """The stems of its words, in order."""
    vocabulary: frozenset[str]
    """Its stems, each once."""
    length: int
    """How many words it has."""

    def __repr__(self) -> str:
        """Which line it is; the order of its vocabulary differs from process to process."""
        return f"Line({self.passage.id!r}, {self.rank}, {self.index}, {self.sentence!r})"

    @property
    def citation(self) -> Citation:
        """This sentence as a citation."""
        return Citation(source=self.passage.source, passage=self.passage.id, quote=self.sentence)


class Evidence:
    """Some passages, read once.

    Words are weighted by inverse document frequency over the sentences (Spärck Jones, 1972): a word that stands in all
    of them tells next to nothing.

    Args:
        passages: Best first.
    """

    texts: tuple[ParsedText, ...]
    """By rank, the passage's text."""
    headings: tuple[frozenset[str], ...]
    """By rank, the stems of the titles that the passage stands under."""
    _starts: tuple[int, ...]
    """By rank, how many sentences stand in the passages before; then how many there are."""
    _weights: "_IdfWeights"

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)

    def __reduce__(self) -> tuple[type["Evidence"], tuple[tuple[Passage, ...]]]:
        """What another process needs to read it."""
        return Evidence, (self.passages,)

    @property
    def size(self) -> int:
        """How many characters there are to read."""
        return sum([len(passage.text) + len(passage.heading or "") for passage in self.passages])

    def __getattr__(self, name: str) -> Any:
        """Read the passages when something is first asked of them: for another process, they are not read here."""
        if name not in {"texts", "headings", "_starts", "_weights"}:
            raise AttributeError(name)
        self.texts = tuple([_parse(passage.text) for passage in self.passages])
        self.headings = tuple([_heading_stems(passage.heading or "") for passage in self.passages])
        self._starts = tuple(accumulate([len(text.sentences) for text in self.texts], initial=0))
        self._weights = _IdfWeights([text.places for text in self.texts], self._starts[-1])
        return getattr(self, name)

    def weight(self, stem: str) -> float:
        """How much a word tells: the rarer among the sentences, the more; one that is in none of them most."""
        return self._weights[stem]

    def weigh(self, some: Iterable[str]) -> float:
        """How much some words tell together; summed exactly, so that the order of a set makes no difference."""
        return math.fsum(map(self._weights.__getitem__, some))

    def containment(self, some: Iterable[str], within: frozenset[str]) -> float:
        """The weighted share of words that stand within others, 0 to 1 (containment, Broder 1997)."""
        wanted = set(some)
        return self.weigh(wanted & within) / (self.weigh(wanted) or 1.0)

    def mentions(self, fact: str) -> bool:
        """Whether a number, identifier or name occurs in the passages or above them."""
        return any(fact.lower() in known or fact in whole for whole, known in self._known)

    def shares_words_with(self, question: str) -> bool:
        """Whether any word of a question, of those that questions are not made of, is in the passages or above them."""
        return any(
            any(stem in text.places for text in self.texts) or any(stem in heading for heading in self.headings)
            for stem in stems(question)
        )

    def windows(self, some: Iterable[tuple[str, float]]) -> dict[int, float]:
        """How much of some words tells in a sentence and the one after it, where any does, but for rounding.

        Args:
            some: Different words, and how much each tells.

        Returns:
            By the sentence's number among all, as `place` takes it.
        """
        told, found = tuple(some), dict[int, float]()
        few = self._starts[-1] <= _MAX_WINDOWS
        left = {} if few else dict.fromkeys([stem for stem, _ in told], _MAX_WINDOWS)
        for start, text in zip(self._starts, self.texts, strict=False):
            windows = text.windows
            for stem, weight in told:
                if stem in windows:
                    places = windows[stem]
                    if not few:
                        places = places[: left[stem]]
                        left[stem] -= len(places)
                    for index in places:
                        number = start + index
                        found[number] = found.get(number, 0.0) + weight
        return found

    def place(self, number: int) -> tuple[int, int]:
        """The rank of a sentence's passage and its place there, by its number among all sentences."""
        rank = bisect_right(self._starts, number) - 1
        return rank, number - self._starts[rank]

    def line(self, rank: int, index: int) -> EvidenceSentence:
        """A sentence of a passage."""
        return EvidenceSentence(self.passages[rank], rank, index, *self.texts[rank].sentences[index])

    @cached_property
    def lines(self) -> tuple[EvidenceSentence, ...]:
        """All sentences, by rank and place."""
        return tuple(
            self.line(rank, index) for rank, text in enumerate(self.texts) for index in range(len(text.sentences))
        )

    @cached_property
    def _known(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple(_flat_text_and_words(f"{passage.heading or ''}\n{passage.text}") for passage in self.passages)


class _IdfWeights(dict[str, float]):
    """How much each word tells, worked out when it is first asked for."""

    def __init__(self, places: Sequence[Mapping[str, Sequence[int]]], lines: int) -> None:
        super().__init__()
        self._places = places
        self._lines = lines

    def __missing__(self, stem: str) -> float:
        frequency = 0
        for places in self._places:
            if stem in places:
                frequency += len(places[stem])
        weight = self[stem] = math.log(1 + (self._lines + 1) / (frequency + 0.5))
        return weight


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _parse(text: str) -> ParsedText:
    """A text's sentences, and where its words are."""
    found = tuple(
        ParsedSentence(sentence, said := stems(sentence), frozenset(said), len(words(sentence)))
        for sentence in sentences_of(text)
    )
    places: dict[str, list[int]] = {}
    for index, read in enumerate(found):
        for stem in read.vocabulary:
            places.setdefault(stem, []).append(index)
    windows = {stem: sorted({*some, *(index - 1 for index in some if index)}) for stem, some in places.items()}
    return ParsedText(found, places, windows)


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _heading_stems(heading: str) -> frozenset[str]:
    return frozenset(stems(heading))


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def _flat_text_and_words(text: str) -> tuple[str, frozenset[str]]:
    """A text on one line, and its words."""
    whole = collapse_whitespace(text)
    return whole, frozenset(words(whole))
