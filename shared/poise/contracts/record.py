"""Records and scores of finished runs."""

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
    """The step's name, or the id that the workflow gave it; repeated steps may have the same one."""
    ms: Elapsed
    """Milliseconds from sending the request to receiving the reply."""
    fault: str | None = None
    """The fault type, if it ended with a fault."""


def longest_by_step(steps: Iterable[StepRecord]) -> dict[str, float]:
    """Return milliseconds by step; of steps with the same name, those of the longest."""
    longest: dict[str, float] = {}
    for record in steps:
        longest[record.step] = max(record.ms, longest.get(record.step, 0.0))
    return longest


class Draw(Message):
    """The random choice of the first variant. Only such choices count for or against a variant."""

    kind: ClassVar[str] = "draw/1"

    variant: str
    probability: Share
    policy: str
    policy_version: Int64
    raw: str | None = None
    """The text that the variant wrote, even if it was not sent; absent if it wrote nothing."""
    finish_reason: str | None = None
    skipped: str | None = None
    """Why the variant was not called; absent if it was."""
    ms: Elapsed | None = None
    """Milliseconds from the request to the end of the text or the fault; absent if the variant was not called."""
    cost: Quantity | None = None
    """The cost, in the currency of the variants' prices; absent if the variant has no price."""


class Generation(Message):
    """One variant's attempt to write the answer."""

    kind: ClassVar[str] = "generation/1"

    variant: str
    raw: str | None = None
    """The text that it wrote, even if it was not sent; absent if it wrote nothing."""
    finish_reason: str | None = None
    fault: str | None = None
    """The fault type, if it ended with a fault."""
    broken: str | None = None
    """Why the text was rejected; absent if it was sent."""


class RunRecord(Message):
    """A finished run, with everything that evaluation needs to score it."""

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
    """Whether the answer came from the cache or from a concurrent run. It then does not count for any variant."""
    generations: Annotated[tuple[Generation, ...], Field(fail_fast=True)] = ()
    steps: Annotated[tuple[StepRecord, ...], Field(fail_fast=True)] = ()
    passages: Annotated[tuple[Passage, ...], Field(fail_fast=True)] = ()
    """The retrieved passages, each text truncated to a size limit."""
    shortened: tuple[str, ...] | None = None
    """Fields that were truncated further because the record was too large for its topic; absent = none."""


class Score(Message):
    """The scores of one run by evaluation, or the feedback on it."""

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
    """When the run finished or the feedback was given, unix seconds."""
    question: str | None = None
    """A digest of the question, so that repeated questions can be weighted."""
    feedback: str | None = None
    """The id of the feedback; absent = the scores are those of evaluation."""
    values: dict[str, Finite]
    """Values by score name: groundedness 0 to 1, empty and degenerate 0 or 1, `latency_ms.<step>` milliseconds."""
