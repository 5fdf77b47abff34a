"""Evidence: the sentences of some passages, and how much each word tells among them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from poise.contracts import Citation, Passage
from poise.scoring.text import flat, stems, words
from poise.scoring.text import sentences as sentences_of

_REMEMBERED: Final = 2_048
"""Texts of passages whose reading is kept, some 20 kB each at most: the same ones are found again and again."""


class Sentence(NamedTuple):
    """A sentence, read."""

    sentence: str
    stems: tuple[str, ...]
    vocabulary: frozenset[str]
    length: int


class Text(NamedTuple):
    """A passage's text, read."""

    sentences: tuple[Sentence, ...]
    places: dict[str, list[int]]
    """By stem, the sentences that have it."""
    windows: dict[str, list[int]]
    """By stem, the sentences that have it or are followed by one that has."""


# Not frozen: some are made for each run, and a frozen one is slower to make.
@dataclass(slots=True, repr=False, unsafe_hash=True)
class Line:
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

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self.texts = tuple([_read(passage.text) for passage in passages])
        """By rank, the passage's text."""
        self.headings = tuple(_heading(passage.heading or "") for passage in passages)
        """By rank, the stems of the titles that the passage stands under."""
        lines = sum([len(text.sentences) for text in self.texts])
        self._weights = _Weights([text.places for text in self.texts], lines)

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

    def knows(self, fact: str) -> bool:
        """Whether a number, identifier or name occurs in the passages or above them."""
        return any(fact.lower() in known or fact in whole for whole, known in self._known)

    def bears_on(self, question: str) -> bool:
        """Whether any word of a question, of those that questions are not made of, is in the passages or above them."""
        return any(
            any(stem in text.places for text in self.texts) or any(stem in heading for heading in self.headings)
            for stem in stems(question)
        )

    def windows(self, some: Iterable[tuple[str, float]]) -> list[list[float]]:
        """By rank and sentence: how much of some words tells in it and the one after it, but for rounding.

        Args:
            some: Different words, and how much each tells.
        """
        told, found = tuple(some), []
        for text in self.texts:
            windows, within = text.windows, [0.0] * len(text.sentences)
            for stem, weight in told:
                if stem in windows:
                    for index in windows[stem]:
                        within[index] += weight
            found.append(within)
        return found

    def line(self, rank: int, index: int) -> Line:
        """A sentence of a passage."""
        return Line(self.passages[rank], rank, index, *self.texts[rank].sentences[index])

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """All sentences, by rank and place."""
        return tuple(
            self.line(rank, index) for rank, text in enumerate(self.texts) for index in range(len(text.sentences))
        )

    @cached_property
    def _known(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple(_known(f"{passage.heading or ''}\n{passage.text}") for passage in self.passages)


class _Weights(dict[str, float]):
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


@lru_cache(_REMEMBERED)
def _read(text: str) -> Text:
    """A text's sentences, and where its words are."""
    found = tuple(
        Sentence(sentence, said := stems(sentence), frozenset(said), len(words(sentence)))
        for sentence in sentences_of(text)
    )
    places: dict[str, list[int]] = {}
    for index, read in enumerate(found):
        for stem in read.vocabulary:
            places.setdefault(stem, []).append(index)
    windows = {stem: sorted({*some, *(index - 1 for index in some if index)}) for stem, some in places.items()}
    return Text(found, places, windows)


@lru_cache(_REMEMBERED)
def _heading(heading: str) -> frozenset[str]:
    return frozenset(stems(heading))


@lru_cache(_REMEMBERED)
def _known(text: str) -> tuple[str, frozenset[str]]:
    """A text on one line, and its words."""
    whole = flat(text)
    return whole, frozenset(words(whole))
