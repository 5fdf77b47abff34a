"""Records: what a finished run was, and what is thought of it."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from pydantic import Field

from poise.contracts.ask import Answer
from poise.contracts.bounds import Elapsed, Finite, Int64, Quantity, Share, UnixSeconds
from poise.contracts.fault import Fault
from poise.contracts.message import Message
from poise.contracts.retrieve import Passage

SKIPPED_AFTER_FAILURES: Final = "is skipped, it failed lately"
"""How `Draw.skipped` reads when the variant's breaker was open: the variant's name before it, its last error after."""


class StepRecord(Message):
    """One call inside a run."""

    kind: ClassVar[str] = "step-record/1"

    step: str
    """Its name, or the id that the workflow gave it; what is done often has the same one each time."""
    ms: Elapsed
    """Milliseconds from sending the request to having the reply."""
    fault: str | None = None
    """The fault's type, when that is how it ended."""


def longest_by_step(steps: Iterable[StepRecord]) -> dict[str, float]:
    """Milliseconds by step; of those that have the same name, of the longest."""
    took: dict[str, float] = {}
    for record in steps:
        took[record.step] = max(record.ms, took.get(record.step, 0.0))
    return took


class Draw(Message):
    """How the first variant was chosen: only randomised first choices count for or against a variant."""

    kind: ClassVar[str] = "draw/1"

    variant: str
    probability: Share
    policy: str
    policy_version: Int64
    raw: str | None = None
    """What that variant wrote, whether or not it was sent; absent when it wrote nothing."""
    finish_reason: str | None = None
    skipped: str | None = None
    """Why that variant was not even asked; absent when it was."""
    ms: Elapsed | None = None
    """Milliseconds that it took, from asking it to its last word or its fault; absent when it was not asked."""
    cost: Quantity | None = None
    """What it cost, in the currency of the variants' prices; absent where the variant has no price."""


class Generation(Message):
    """One variant's try to write the answer, in the order in which they were made."""

    kind: ClassVar[str] = "generation/1"

    variant: str
    raw: str | None = None
    """What it wrote, whether or not it was sent; absent when it wrote nothing."""
    finish_reason: str | None = None
    fault: str | None = None
    """The fault's type, when that is how it ended."""
    broken: str | None = None
    """Why it was not sent; absent when it was."""


class RunRecord(Message):
    """A finished run, whole: everything that evaluation needs to judge it."""

    kind: ClassVar[str] = "run-record/1"

    run_id: str
    workflow: str
    tenant: str
    question: str
    started: UnixSeconds
    """Unix seconds."""
    finished: UnixSeconds
    answer: Answer | None = None
    fault: Fault | None = None
    draw: Draw | None = None
    cached: bool = False
    """The answer came from the cache, or from a run at the same time: it says nothing of any variant."""
    generations: Annotated[tuple[Generation, ...], Field(fail_fast=True)] = ()
    steps: Annotated[tuple[StepRecord, ...], Field(fail_fast=True)] = ()
    passages: Annotated[tuple[Passage, ...], Field(fail_fast=True)] = ()
    """What was retrieved, each text cut to a size limit."""
    shortened: tuple[str, ...] | None = None
    """Fields of which more was cut, for the record was larger than its topic takes; absent = none was."""


class Score(Message):
    """What evaluation thinks of one run."""

    kind: ClassVar[str] = "score/1"

    run_id: str
    workflow: str
    tenant: str
    policy: str
    policy_version: Int64
    variant: str
    probability: Share
    rung: str
    at: UnixSeconds
    """When the run finished, unix seconds; of feedback, when it was given."""
    question: str | None = None
    """A digest of the question, so that one that is asked again and again can be weighed by it."""
    feedback: str | None = None
    """The id of the feedback that this is; absent = what evaluation itself thinks."""
    values: dict[str, Finite]
    """By the score's name: groundedness 0 to 1, empty and degenerate 0 or 1, `latency_ms.<step>` milliseconds."""
