"""Evidence: which sentence of the passages bears on a text, and how well it bears it."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poise.contracts import Citation, Passage
from poise.scoring import text


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence of a passage."""

    passage: Passage
    rank: int
    """The passage's place among those retrieved, 0 = best."""
    index: int
    """The sentence's place in its passage."""
    sentence: str
    stems: frozenset[str]

    @property
    def citation(self) -> Citation:
        """This sentence as a citation."""
        return Citation(source=self.passage.source, passage=self.passage.id, quote=self.sentence)


class Evidence:
    """The sentences of some passages, with the weight that each word has among them.

    Words are weighted by inverse document frequency over these sentences (Spärck Jones, 1972): a word that stands in
    all of them tells nothing.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self.lines = [
            Line(passage, rank, index, sentence, frozenset(text.stems(sentence)))
            for rank, passage in enumerate(passages)
            for index, sentence in enumerate(text.sentences(passage.text))
        ]
        self._frequency = Counter(stem for line in self.lines for stem in line.stems)
        self._words = {word for passage in passages for word in text.words(f"{passage.heading or ''} {passage.text}")}
        self._whole = text.flat(" ".join(passage.text for passage in passages))

    def weight(self, stem: str) -> float:
        """How much a word tells: the rarer among the sentences, the more."""
        return math.log(1 + (len(self.lines) + 1) / (self._frequency[stem] + 0.5))

    def containment(self, stems: Iterable[str], within: frozenset[str]) -> float:
        """The weighted share of words that stand within others, 0 to 1 (containment, Broder 1997)."""
        wanted = set(stems)
        total = sum(self.weight(stem) for stem in wanted)
        return sum(self.weight(stem) for stem in wanted & within) / total if total else 0.0

    def knows(self, fact: str) -> bool:
        """Whether a number, identifier or name occurs in the passages."""
        return fact.lower() in self._words or fact in self._whole

    def best(self, sentence: str) -> tuple[float, Line | None]:
        """The line that bears a sentence best, with how much of it: read together with the line after it, 0 to 1."""
        stems = text.stems(sentence)
        found: tuple[float, Line | None] = (0.0, None)
        for line, after in zip(self.lines, [*self.lines[1:], None], strict=True):
            together = line.stems
            if after is not None and after.passage is line.passage:
                together |= after.stems
            # The line alone decides between two that bear as much together.
            share = 0.9 * self.containment(stems, together) + 0.1 * self.containment(stems, line.stems)
            if share > found[0]:
                found = share, line
        return found
