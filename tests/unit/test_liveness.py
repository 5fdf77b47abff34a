"""Liveness: a stalled component makes the process not ready, then ends it; a missing broker does not end it."""

import asyncio
import logging

import pytest
from liveness_kit import ProcessOnClock

from poise.errors import SetupError
from poise.liveness import Liveness


def test_a_component_without_progress_is_not_ready_and_then_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    process = ProcessOnClock()
    reader = process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    assert process.advance(10) is None
    assert process.liveness.conditions() == {"reader of a": True}
    assert process.advance(1) is None
    assert process.liveness.conditions() == {"reader of a": False}
    reader.progress()
    assert process.liveness.conditions() == {"reader of a": True}
    assert process.advance(60) is None
    reason = process.advance(1)
    assert str(reason) == "reader of a has made no progress for 61 s although the broker answers"
    assert [record.getMessage() for record in caplog.records if "no progress" in record.getMessage()] == [
        "reader of a made no progress for 11 s, not ready: no known cause"
    ] * 2, "once per stall, not once per check"


def test_without_a_broker_the_process_does_not_end() -> None:
    process = ProcessOnClock()
    process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    process.liveness.record_broker(answering=False)
    assert process.advance(3_600) is None
    assert not process.liveness.conditions()["reader of a"]
    process.liveness.record_broker(answering=True)
    assert process.advance(60) is None, "`ends_after` starts when the broker answers"
    assert process.advance(1) is not None


def test_a_blocked_component_is_not_ready_and_does_not_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    process = ProcessOnClock()
    reader = process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    for _ in range(100):
        reader.report_blocked("topic a does not exist")
        assert process.advance(5) is None
    assert not process.liveness.conditions()["reader of a"]
    assert "not ready: topic a does not exist" in caplog.text


def test_time_in_which_the_process_was_suspended_does_not_count() -> None:
    process = ProcessOnClock()
    process.liveness.component("reader of a", stalls_after=10, ends_after=60)
    assert process.advance(5) is None
    process.clock.now += 3_600  # stopped by a signal, and continued
    assert process.liveness.check() is None
    assert process.advance(60) is None
    assert process.advance(1) is not None


def test_ages_are_reported_by_component() -> None:
    process = ProcessOnClock()
    process.liveness.component("a")
    process.clock.now += 3
    process.liveness.component("b")
    assert list(process.liveness.ages()) == [(3.0, {"poise.component": "a"}), (0.0, {"poise.component": "b"})]


def test_two_components_of_one_name_are_ready_only_together() -> None:
    process = ProcessOnClock()
    process.liveness.component("a", stalls_after=10)
    process.clock.now += 11
    second = process.liveness.component("a", stalls_after=10)
    assert process.liveness.conditions() == {"a": False}
    second.close()
    assert process.liveness.conditions() == {"a": False}


async def test_a_failed_component_ends_the_process_at_once_and_names_the_error() -> None:
    liveness = Liveness()
    component = liveness.component("reader of a")
    watching = asyncio.create_task(liveness.watch())
    await asyncio.sleep(0)
    component.fail(OverflowError("int too large to convert to float"))
    with pytest.raises(SetupError, match=r"^reader of a has failed: OverflowError: int too large to convert to float$"):
        await watching
    assert liveness.conditions() == {"reader of a": False}


@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
async def test_a_component_fails_when_its_task_ends(how: str) -> None:
    async def loop() -> None:
        if how == "is cancelled":
            await asyncio.Event().wait()
        if how == "raises":
            raise ValueError("no such thing")

    liveness = Liveness()
    component = liveness.component("reader of a")
    task = component.run(loop())
    await asyncio.sleep(0)
    if how == "is cancelled":
        task.cancel()
    with pytest.raises(SetupError, match="reader of a has failed: "):
        await liveness.watch()


async def test_the_task_of_a_closed_component_may_end() -> None:
    liveness = Liveness()
    component = liveness.component("reader of a")
    task = component.run(asyncio.Event().wait())
    component.close()
    task.cancel()
    await asyncio.wait({task})
    assert liveness.check() is None
    assert liveness.conditions() == {}


async def test_watch_while_raises_when_a_component_fails() -> None:
    reasons: list[str] = []
    liveness = Liveness(on_fatal=reasons.append)
    assert await liveness.watch_while(asyncio.sleep(0, "done")) == "done"
    component = liveness.component("reader of a")
    waiting = asyncio.create_task(liveness.watch_while(asyncio.Event().wait()))
    await asyncio.sleep(0)
    component.fail(ValueError("no such thing"))
    with pytest.raises(SetupError, match="reader of a has failed: ValueError: no such thing"):
        await waiting
    assert reasons == ["reader of a has failed: ValueError: no such thing"]
