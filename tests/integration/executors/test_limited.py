"""Large work runs in a process, and is given up at a limit of time or memory; what comes next is done all the same."""

import asyncio
import os
import re

import pytest

from poise.contracts import Completion, Document, Passage, Usage
from poise.errors import RetryableError, WorkLimitError
from poise.executors.limited import LimitedExecutor, WorkLimits
from poise.scoring import Evidence
from poise_services.orchestration.answer_check import Rejected, check
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.settings import Ladder, Variant
from poise_services.retrieval.passages import split_document

SMALL = WorkLimits(inline=10, seconds=1.0, megabytes=300)


def backtrack(text: str) -> bool:
    """Takes for ever, with the GIL held."""
    return re.fullmatch(r"(a|a)*b", text) is not None


def hoard(text: str) -> int:
    """Takes a gigabyte."""
    return len([text] * 2**27)


def process(_: str) -> int:
    """Where it runs."""
    return os.getpid()


def die(_: str) -> None:
    """Ends its process."""
    os.kill(os.getpid(), 9)


async def test_small_work_is_done_here_and_large_work_elsewhere() -> None:
    async with LimitedExecutor(SMALL) as executor:
        assert await executor.run(process, "a", size=10) == os.getpid()
        there = await executor.run(process, "a", size=11)
        assert there != os.getpid()
        assert await executor.run(process, "b", size=11) == there


async def test_large_work_needs_an_executor_that_ends_its_process() -> None:
    executor = LimitedExecutor(SMALL)
    assert await executor.run(process, "a", size=10) == os.getpid()
    with pytest.raises(RuntimeError, match=r"^enter the executor"):
        await executor.run(process, "a", size=11)


async def test_what_takes_too_long_is_given_up_and_holds_up_nobody_meanwhile() -> None:
    async with LimitedExecutor(SMALL) as executor:
        await executor.run(process, "a", size=11)
        slow = asyncio.create_task(executor.run(backtrack, "a" * 60, size=60))
        turns = 0
        while not slow.done():  # the event loop goes on turning
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(WorkLimitError, match=r"^backtrack of 60 characters took more than 1 s: it is given up"):
            await slow
        assert turns > 10
        assert await executor.run(backtrack, "b" * 60, size=60) is False


async def test_what_takes_too_much_memory_is_given_up() -> None:
    async with LimitedExecutor(SMALL) as executor:
        with pytest.raises(WorkLimitError, match=r"^hoard of 11 characters took more than 300 MB"):
            await executor.run(hoard, "a", size=11)
        assert await executor.run(backtrack, "b", size=11) is True


async def test_a_process_that_ends_is_replaced() -> None:
    async with LimitedExecutor(SMALL) as executor:
        with pytest.raises(RetryableError, match="killed by signal 9"):
            await executor.run(die, "a", size=11)
        assert await executor.run(backtrack, "b", size=11) is True


async def test_what_the_tiers_do_there_is_what_they_do_here() -> None:
    text = "The loop does not end. " * 100
    evidence = Evidence([Passage(id="d#0", source="s", text=text, score=1.0, age=0.0)])
    said = Completion(
        text="The loop does not end.",
        model="m",
        backend="default",
        finish_reason="stop",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
    )
    question, ladder = "Does the loop end?", Ladder(min_groundedness=0.1, min_relevance=0.0)
    async with LimitedExecutor(WorkLimits(inline=10)) as executor:
        there, here = EvidenceReader(evidence, executor), EvidenceReader(evidence)
        document = Document(text=text, source="s")
        assert await executor.run(split_document, document, size=len(text)) == split_document(document)
        assert await there.extract(question, 2) == await here.extract(question, 2)
        variant = Variant(name="v")
        assert await there.build_prompt(question, variant) == await here.build_prompt(question, variant)
        found = await there.check(said, question, ladder, "v")
        assert found == check(said, evidence, question, ladder, "v")
        assert not isinstance(found, Rejected)
