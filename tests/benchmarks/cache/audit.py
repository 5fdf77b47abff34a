"""The audit: was an answer that is older than a change of its documents ever sent unmarked?

It believes nothing that the cache says of itself. Every sentence of a document carries the number of the change that
it came with, `(rev 17)`, and an answer is made of such sentences: so its words tell which version it was made from.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from poise.contracts import Answer

_END: Final = re.compile(r"(?<=[a-z\"”)])\.(?=\s|$)")
_MARK: Final = re.compile(r"\(rev (\d+)\)")


def marked(text: str, change: int) -> str:
    """The text with the number of a change in every sentence."""
    return _END.sub(f" (rev {change}).", text)


@dataclass(slots=True)
class Change:
    """A version of a document that says something else than the one before."""

    number: int
    acknowledged: float
    """When the broker had it, unix seconds."""
    found: float | None = None
    """When it was known that it can be found; None = not yet."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answer, and when it was asked for."""

    asked: float
    answer: Answer
    ms: float


@dataclass(slots=True)
class Verdict:
    """What the audit found."""

    violations: list[str] = field(default_factory=list)
    """Answers sent unmarked to asks that came after it was known that a change of their document can be found."""
    between: int = 0
    """Answers sent to asks that came after a change was acknowledged, and before that was known: the log tells nobody
    sooner, with a cache or without."""
    told: int = 0
    """Answers whose words tell what they were made from."""
    marked: int = 0
    """Answers that were stale and said so."""


class Audit:
    """The history of changes, and what it says of answers. Times are of one clock."""

    def __init__(self) -> None:
        self._changes: dict[str, list[Change]] = defaultdict(list)
        self._document: dict[int, str] = {}

    def change(self, document: str, number: int, acknowledged: float) -> Change:
        """Note that a document has changed."""
        change = Change(number, acknowledged)
        self._changes[document].append(change)
        self._document[number] = document
        return change

    def judge(self, served: list[Served]) -> Verdict:
        """Judge all answers."""
        verdict = Verdict()
        for one in served:
            numbers = {int(number) for number in _MARK.findall(one.answer.text)}
            verdict.told += bool(numbers)
            overtaken = [change for number in numbers for change in self._later(number)]
            if one.answer.rung == "stale":
                verdict.marked += 1
                continue
            if any(change.found is not None and change.found < one.asked for change in overtaken):
                verdict.violations.append(f"asked at {one.asked:.3f}: {one.answer.encode().decode()[:400]}")
            elif any(change.acknowledged < one.asked for change in overtaken):
                verdict.between += 1
        return verdict

    def _later(self, number: int) -> list[Change]:
        return [change for change in self._changes[self._document[number]] if change.number > number]
