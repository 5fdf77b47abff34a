"""The audit: finds answers that are older than a change of their documents and not marked as stale.

It does not use what the cache reports. Every sentence of a document has the number of the change that wrote it,
`(rev 17)`. An answer consists of such sentences, so its text identifies the document versions it was made from.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from poise.contracts import Answer

_END: Final = re.compile(r"(?<=[a-z\"”)])\.(?=\s|$)")
_MARK: Final = re.compile(r"\(rev (\d+)\)")


def marked(text: str, change: int) -> str:
    """Return the text with the number of a change in every sentence."""
    return _END.sub(f" (rev {change}).", text)


@dataclass(slots=True)
class Change:
    """A version of a document whose content differs from the one before."""

    number: int
    acknowledged: float
    """When the broker acknowledged it, unix seconds."""
    found: float | None = None
    """When it was confirmed that retrieval finds it; None = not yet."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answer, the time of its ask and its latency."""

    asked: float
    answer: Answer
    ms: float


@dataclass(slots=True)
class AuditResult:
    """The findings of the audit."""

    violations: list[str] = field(default_factory=list)
    """Unmarked answers to asks sent after retrieval was confirmed to find a change of their document."""
    between: int = 0
    """Answers to asks sent between the acknowledgement of a change and that confirmation. No reader of the log can know
    the change sooner, with or without a cache."""
    identified: int = 0
    """Answers whose text identifies the versions they were made from."""
    marked: int = 0
    """Stale answers that were marked as such."""


class Audit:
    """The history of changes, compared with answers. All times are of one clock."""

    def __init__(self) -> None:
        self._changes: dict[str, list[Change]] = defaultdict(list)
        self._document: dict[int, str] = {}

    def change(self, document: str, number: int, acknowledged: float) -> Change:
        """Record a change of a document."""
        change = Change(number, acknowledged)
        self._changes[document].append(change)
        self._document[number] = document
        return change

    def check(self, served: list[Served]) -> AuditResult:
        """Compare all answers with the history of changes."""
        result = AuditResult()
        for one in served:
            numbers = {int(number) for number in _MARK.findall(one.answer.text)}
            result.identified += bool(numbers)
            overtaken = [change for number in numbers for change in self._later(number)]
            if one.answer.rung == "stale":
                result.marked += 1
                continue
            if any(change.found is not None and change.found < one.asked for change in overtaken):
                result.violations.append(f"asked at {one.asked:.3f}: {one.answer.encode().decode()[:400]}")
            elif any(change.acknowledged < one.asked for change in overtaken):
                result.between += 1
        return result

    def _later(self, number: int) -> list[Change]:
        return [change for change in self._changes[self._document[number]] if change.number > number]
