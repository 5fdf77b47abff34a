"""Liveness: a part that stands still makes its process not ready, then ends it; a broker that is away does neither."""

import asyncio
import logging

import pytest
from liveness_kit import ProcessOnClock

from poise.errors import SetupError
from poise.liveness import Liveness


def test_a_part_that_makes_no_progress_is_not_ready_and_then_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    process = ProcessOnClock()
    reader = process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    assert process.passes(10) is None
    assert process.liveness.conditions() == {"reader of a": True}
    assert process.passes(1) is None
    assert process.liveness.conditions() == {"reader of a": False}
    reader.progress()
    assert process.liveness.conditions() == {"reader of a": True}
    assert process.passes(60) is None
    reason = process.passes(1)
    assert str(reason) == "reader of a has stood still for 61 s although the broker answers"
    assert [record.getMessage() for record in caplog.records if "no progress" in record.getMessage()] == [
        "reader of a made no progress for 11 s, not ready: nothing is known to be in its way"
    ] * 2, "once for each time, not at each look"


def test_a_broker_that_is_away_ends_nothing() -> None:
    process = ProcessOnClock()
    process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    process.liveness.broker(answers=False)
    assert process.passes(3_600) is None
    assert not process.liveness.conditions()["reader of a"]
    process.liveness.broker(answers=True)
    assert process.passes(60) is None, "it has as long as ever from then on"
    assert process.passes(1) is not None


def test_what_stands_in_the_way_from_outside_makes_not_ready_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    process = ProcessOnClock()
    reader = process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    for _ in range(100):
        reader.wait("topic a does not exist")
        assert process.passes(5) is None
    assert not process.liveness.conditions()["reader of a"]
    assert "not ready: topic a does not exist" in caplog.text


def test_a_process_that_stood_still_itself_blames_no_part() -> None:
    process = ProcessOnClock()
    process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    assert process.passes(5) is None
    process.clock.now += 3_600  # stopped by a signal, and continued
    assert process.liveness.check() is None
    assert process.passes(60) is None
    assert process.passes(1) is not None


def test_ages_are_told_by_part() -> None:
    process = ProcessOnClock()
    process.liveness.component("a")
    process.clock.now += 3
    process.liveness.component("b")
    assert list(process.liveness.ages()) == [(3.0, {"poise.part": "a"}), (0.0, {"poise.part": "b"})]


def test_of_two_parts_of_one_name_both_must_go_on() -> None:
    process = ProcessOnClock()
    process.liveness.component("a", stalls_after=10)
    process.clock.now += 11
    second = process.liveness.component("a", stalls_after=10)
    assert process.liveness.conditions() == {"a": False}
    second.close()
    assert process.liveness.conditions() == {"a": False}


async def test_a_part_that_failed_ends_the_process_at_once_and_names_the_error() -> None:
    liveness = Liveness()
    part = liveness.component("reader of a")
    watching = asyncio.create_task(liveness.watch())
    await asyncio.sleep(0)
    part.fail(OverflowError("int too large to convert to float"))
    with pytest.raises(SetupError, match=r"^reader of a has failed: OverflowError: int too large to convert to float$"):
        await watching
    assert liveness.conditions() == {"reader of a": False}


@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
async def test_a_task_that_is_over_fails_its_part(how: str) -> None:
    async def loop() -> None:
        if how == "is cancelled":
            await asyncio.Event().wait()
        if how == "raises":
            raise ValueError("no such thing")

    liveness = Liveness()
    part = liveness.component("reader of a")
    task = part.run(loop())
    await asyncio.sleep(0)
    if how == "is cancelled":
        task.cancel()
    with pytest.raises(SetupError, match="reader of a has failed: "):
        await liveness.watch()


async def test_a_part_that_was_closed_may_end() -> None:
    liveness = Liveness()
    part = liveness.component("reader of a")
    task = part.run(asyncio.Event().wait())
    part.close()
    task.cancel()
    await asyncio.wait({task})
    assert liveness.check() is None
    assert liveness.conditions() == {}


async def test_who_waits_while_nobody_watches_hears_of_a_part_that_ends() -> None:
    told: list[str] = []
    liveness = Liveness(ending=told.append)
    assert await liveness.watch_while(asyncio.sleep(0, "done")) == "done"
    part = liveness.component("reader of a")
    waiting = asyncio.create_task(liveness.watch_while(asyncio.Event().wait()))
    await asyncio.sleep(0)
    part.fail(ValueError("no such thing"))
    with pytest.raises(SetupError, match="reader of a has failed: ValueError: no such thing"):
        await waiting
    assert told == ["reader of a has failed: ValueError: no such thing"]
