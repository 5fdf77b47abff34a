import asyncio
from collections import Counter

import pytest

from poise.errors import UnavailableError
from poise_labs.balance.load import MAX_CONSECUTIVE_FAILURES, LoadGenerator, shuffled_rounds
from poise_labs.balance.questions import QUESTIONS


async def test_load_generator_limits_concurrent_asks() -> None:
    asked: list[str] = []
    answer, three, twenty = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask(question: str) -> None:
        asked.append(question)
        if len(asked) == 3:
            three.set()
        if len(asked) == 23:
            twenty.set()
        await answer.wait()
        await asyncio.sleep(0)

    stream = LoadGenerator(ask, QUESTIONS, concurrency=3)
    flowing = asyncio.create_task(stream.run())
    await three.wait()
    await asyncio.sleep(0)
    assert len(asked) == 3
    answer.set()
    await twenty.wait()
    assert stream.answered >= 20
    flowing.cancel()
    await asyncio.gather(flowing, return_exceptions=True)
    assert flowing.cancelled()
    assert stream.failed == 0


async def test_failed_ask_is_counted_and_the_next_is_sent() -> None:
    done = asyncio.Event()
    times = 0

    async def ask(_: str) -> None:
        nonlocal times
        times += 1
        if times % 2:
            raise UnavailableError("away")
        if times >= 4 * MAX_CONSECUTIVE_FAILURES:
            done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    stream = LoadGenerator(ask, QUESTIONS, concurrency=1)
    flowing = asyncio.create_task(stream.run())
    await done.wait()
    assert stream.failed == 2 * MAX_CONSECUTIVE_FAILURES
    flowing.cancel()
    await asyncio.gather(flowing, return_exceptions=True)


async def test_load_generator_fails_after_consecutive_failures() -> None:
    async def ask(_: str) -> None:
        raise UnavailableError("the broker is away")

    with pytest.raises(UnavailableError, match="10 asks in a row failed, the last: the broker is away"):
        await LoadGenerator(ask, QUESTIONS).run()


def test_each_round_has_every_question_once_in_a_new_order() -> None:
    stream = shuffled_rounds(QUESTIONS, 7)
    first, second = ([next(stream) for _ in QUESTIONS] for _ in range(2))
    assert Counter(first) == Counter(second) == Counter(QUESTIONS)
    assert first != second
    assert first == [one for one, _ in zip(shuffled_rounds(QUESTIONS, 7), QUESTIONS, strict=False)]


def test_questions_are_numerous_and_unique() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) >= 60
