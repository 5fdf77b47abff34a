"""Large work runs in a process and is stopped at a limit of time or memory; later work is not affected."""

import asyncio
import os
import re

import pytest

from poise.contracts import Completion, Document, Passage, Usage
from poise.errors import RetryableError, WorkLimitError
from poise.executors.limited import LimitedExecutor, WorkLimits
from poise.scoring import Evidence
from poise_services.orchestration.answer_check import CheckFailed, check
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.settings import LadderSettings, Variant
from poise_services.retrieval.passages import split_document

SMALL = WorkLimits(inline=10, seconds=1.0, megabytes=300)


def backtrack(text: str) -> bool:
    """Run practically forever without releasing the GIL."""
    return re.fullmatch(r"(a|a)*b", text) is not None


def hoard(text: str) -> int:
    """Allocate a gigabyte."""
    return len([text] * 2**27)


def process(_: str) -> int:
    """Return the id of the process that runs this function."""
    return os.getpid()


def die(_: str) -> None:
    """Kill the process that runs this function."""
    os.kill(os.getpid(), 9)


async def test_small_work_runs_directly_and_large_work_in_a_process() -> None:
    async with LimitedExecutor(SMALL) as executor:
        assert await executor.run(process, "a", size=10) == os.getpid()
        pooled = await executor.run(process, "a", size=11)
        assert pooled != os.getpid()
        assert await executor.run(process, "b", size=11) == pooled


async def test_large_work_needs_an_entered_executor() -> None:
    executor = LimitedExecutor(SMALL)
    assert await executor.run(process, "a", size=10) == os.getpid()
    with pytest.raises(RuntimeError, match=r"^enter the executor"):
        await executor.run(process, "a", size=11)


async def test_work_beyond_the_time_limit_is_stopped_without_blocking_the_loop() -> None:
    async with LimitedExecutor(SMALL) as executor:
        await executor.run(process, "a", size=11)
        slow = asyncio.create_task(executor.run(backtrack, "a" * 60, size=60))
        iterations = 0
        while not slow.done():  # the event loop is not blocked
            await asyncio.sleep(0.01)
            iterations += 1
        with pytest.raises(WorkLimitError, match=r"^backtrack of 60 characters exceeded 1 s and was stopped"):
            await slow
        assert iterations > 10
        assert await executor.run(backtrack, "b" * 60, size=60) is False


async def test_work_beyond_the_memory_limit_is_stopped() -> None:
    async with LimitedExecutor(SMALL) as executor:
        with pytest.raises(WorkLimitError, match=r"^hoard of 11 characters exceeded 300 MB and was stopped"):
            await executor.run(hoard, "a", size=11)
        assert await executor.run(backtrack, "b", size=11) is True


async def test_a_process_that_ends_is_replaced() -> None:
    async with LimitedExecutor(SMALL) as executor:
        with pytest.raises(RetryableError, match="killed by signal 9"):
            await executor.run(die, "a", size=11)
        assert await executor.run(backtrack, "b", size=11) is True


async def test_the_tiers_functions_return_the_same_in_a_process() -> None:
    text = "The loop does not end. " * 100
    evidence = Evidence([Passage(id="d#0", source="s", text=text, score=1.0, age=0.0)])
    completion = Completion(
        text="The loop does not end.",
        model="m",
        backend="default",
        finish_reason="stop",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
    )
    question, ladder = "Does the loop end?", LadderSettings(min_groundedness=0.1, min_relevance=0.0)
    async with LimitedExecutor(WorkLimits(inline=10)) as executor:
        pooled, direct = EvidenceReader(evidence, executor), EvidenceReader(evidence)
        document = Document(text=text, source="s")
        assert await executor.run(split_document, document, size=len(text)) == split_document(document)
        assert await pooled.extract(question, 2) == await direct.extract(question, 2)
        variant = Variant(name="v")
        assert await pooled.build_prompt(question, variant) == await direct.build_prompt(question, variant)
        result = await pooled.check(completion, question, ladder, "v")
        assert result == check(completion, evidence, question, ladder, "v")
        assert not isinstance(result, CheckFailed)
