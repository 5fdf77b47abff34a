"""Extraction: the sentences of the passages that bear on a question, and the best of them as an answer.

A sentence bears on a question as far as the question's words stand in it, each weighed by how much it tells (query-
biased sentence selection: Tombros and Sanderson, "Advantages of Query Biased Summaries in Information Retrieval",
1998). What it only points back to ("It terminates the loop") stands in its heading or in the sentence before. Beyond
words count: the rank of its passage, its place there (what matters is said first: Brandow, Mitze and Rau, 1995), and
whether it is about what is asked or mentions it by the way. The numbers were chosen by hand on half of the questions
of tests/benchmarks/answers.toml.
"""

import re
from dataclasses import dataclass
from typing import Final

from poise.scoring.evidence import Evidence, Line
from poise.scoring.text import stems, words

_IN_HEADING: Final = 0.8
_IN_SENTENCE_BEFORE: Final = 0.5
_ABOUT_IT: Final = 0.1
"""For a sentence that begins with a word of the question."""
_BY_THE_WAY: Final = 0.15
"""Off for a sentence that begins with a condition, when the question asks about none."""
_PER_RANK: Final = 0.06
_PER_PLACE: Final = 0.02
_LAST_PLACE: Final = 5
_SAYS_NOTHING: Final = 0.3
"""What is left of a title, a signature, an echo of the question."""
_UNFINISHED: Final = 0.7
"""What is left if it does not end like a sentence, or announces what is not in it."""
_LONG: Final = 0.9
_FEWEST_WORDS: Final = 4
_MOST_WORDS: Final = 45
_CONDITION: Final = re.compile(
    r"(?:when|if|unless|although|while|because|however|for example|note|see|also|changed in|new in|deprecated)\b",
    re.IGNORECASE,
)
_ASKS_ABOUT_CONDITION: Final = re.compile(r"\b(?:when|if|happens)\b", re.IGNORECASE)
_FINISHED: Final = re.compile(r"[.!?)\"”][*_`]*$")
_SESSIONS: Final = (">>>", "$ ")


@dataclass(frozen=True, slots=True)
class _Question:
    stems: tuple[str, ...]
    about_condition: bool


def extract(question: str, evidence: Evidence, number: int) -> list[Line]:
    """The lines that bear most on a question, best first, at most so many; none that does not bear on it at all."""
    asked = _Question(tuple(dict.fromkeys(stems(question))), bool(_ASKS_ABOUT_CONDITION.search(question)))
    scored = [(line, _coverage(asked, line, evidence)) for line in evidence.lines]
    order = sorted(
        ((line, covered * _form(asked, line) + _place(asked, line)) for line, covered in scored if covered > 0),
        key=lambda item: -item[1],
    )
    return [line for line, _ in order[:number]]


def _coverage(asked: _Question, line: Line, evidence: Evidence) -> float:
    """How much of the question is found in the sentence or in what it points back to, 0 to 1."""
    heading, before = evidence.headings[line.rank], evidence.before(line)
    found = 0.0
    for stem in asked.stems:
        if stem in line.vocabulary:
            found += evidence.weight(stem)
        elif stem in heading:
            found += _IN_HEADING * evidence.weight(stem)
        elif before is not None and stem in before.vocabulary:
            found += _IN_SENTENCE_BEFORE * evidence.weight(stem)
    return found / (evidence.weigh(asked.stems) or 1.0)


def _form(asked: _Question, line: Line) -> float:
    """What its form leaves of it, as a factor."""
    factor, length = 1.0, len(words(line.sentence))
    if length < _FEWEST_WORDS or line.vocabulary <= set(asked.stems) or line.sentence.startswith(_SESSIONS):
        factor *= _SAYS_NOTHING
    if not _FINISHED.search(line.sentence):
        factor *= _UNFINISHED
    if length > _MOST_WORDS:
        factor *= _LONG
    return factor


def _place(asked: _Question, line: Line) -> float:
    """What its place and its opening give or take."""
    given = _ABOUT_IT if line.stems and line.stems[0] in asked.stems else 0.0
    if not asked.about_condition and _CONDITION.match(line.sentence):
        given -= _BY_THE_WAY
    return given - _PER_RANK * line.rank - _PER_PLACE * min(line.index, _LAST_PLACE)
