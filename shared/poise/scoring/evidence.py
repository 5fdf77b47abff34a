"""Evidence: the sentences of some passages, and how much each word tells among them."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from poise.contracts import Citation, Passage
from poise.scoring.text import flat, stems, words
from poise.scoring.text import sentences as sentences_of


@dataclass(frozen=True)
class Line:
    """One sentence of a passage."""

    passage: Passage
    rank: int
    """The passage's place among those retrieved, 0 = best."""
    index: int
    """The sentence's place in its passage."""
    sentence: str
    stems: tuple[str, ...]
    """The stems of its words, in order."""

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Its stems, each once."""
        return frozenset(self.stems)

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
        self.lines = tuple(
            Line(passage, rank, index, sentence, tuple(stems(sentence)))
            for rank, passage in enumerate(passages)
            for index, sentence in enumerate(sentences_of(passage.text))
        )
        self.headings = tuple(frozenset(stems(passage.heading or "")) for passage in passages)
        """By rank, the stems of the titles that the passage stands under."""
        self._frequency = Counter(stem for line in self.lines for stem in line.vocabulary)

    def weight(self, stem: str) -> float:
        """How much a word tells: the rarer among the sentences, the more; one that is in none of them most."""
        return math.log(1 + (len(self.lines) + 1) / (self._frequency[stem] + 0.5))

    def weigh(self, some: Iterable[str]) -> float:
        """How much some words tell together; summed exactly, so that the order of a set makes no difference."""
        return math.fsum(map(self.weight, some))

    def containment(self, some: Iterable[str], within: frozenset[str]) -> float:
        """The weighted share of words that stand within others, 0 to 1 (containment, Broder 1997)."""
        wanted = set(some)
        return self.weigh(wanted & within) / (self.weigh(wanted) or 1.0)

    def knows(self, fact: str) -> bool:
        """Whether a number, identifier or name occurs in the passages or above them."""
        return fact.lower() in self._words or fact in self._whole

    def before(self, line: Line) -> Line | None:
        """The sentence before this one in its passage."""
        return self._by_place.get((line.rank, line.index - 1))

    def after(self, line: Line) -> Line | None:
        """The sentence after this one in its passage."""
        return self._by_place.get((line.rank, line.index + 1))

    @cached_property
    def _by_place(self) -> dict[tuple[int, int], Line]:
        return {(line.rank, line.index): line for line in self.lines}

    @cached_property
    def _whole(self) -> str:
        return "\n".join(flat(f"{passage.heading or ''}\n{passage.text}") for passage in self.passages)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(words(self._whole))
