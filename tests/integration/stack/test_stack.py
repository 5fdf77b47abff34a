"""A stack starts, writes its state, restarts parts that die, and leaves no process behind."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack.events import StackEvent
from poise.stack.options import ExternalServices, StackOptions
from poise.stack.stack import Stack
from poise.stack.state import PartState, StackState, running_stack

pytestmark = pytest.mark.integration

INFERENCE = {"inference": 1}


class StackEvents:
    """The events of a stack; a test waits for them."""

    def __init__(self) -> None:
        self.received: list[StackEvent] = []
        self._changed = asyncio.Condition()

    def add(self, event: StackEvent) -> None:
        self.received.append(event)
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, part: str, state: str, times: int = 1) -> list[StackEvent]:
        def found() -> list[StackEvent]:
            return [event for event in self.received if (event.part, event.state) == (part, state)]

        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= times)
        return found()


def part_of(state: StackState | None, name: str) -> PartState:
    assert state is not None
    return next(part for part in state.parts if part.name == name)


async def test_a_part_that_dies_is_restarted_at_its_address_and_no_process_is_left(tmp_path: Path) -> None:
    events = StackEvents()
    async with Stack(StackOptions(tmp_path, INFERENCE), on_event=events.add) as stack:
        before = running_stack(tmp_path)
        assert before is not None
        assert before.ready
        assert before.broker == stack.broker
        pids = [part.pid for part in before.parts]
        assert [part.name for part in before.parts] == ["kafka", "redis", "model", "inference-1"]

        for name in ("inference-1", "redis", "kafka"):
            os.kill(part_of(before, name).pid or 0, signal.SIGKILL)
            (failed,) = await events.until(name, "failed")
            assert "exit code -9; restarting it in 0.5 s" in failed.text
            assert f"{name}.log" in failed.text
            await events.until(name, "ready", times=2)
            after = part_of(running_stack(tmp_path), name)
            assert after.address == part_of(before, name).address
            assert (after.restarts, after.pid not in pids) == (1, True)

        with pytest.raises(SetupError, match="already runs"):
            await Stack(StackOptions(tmp_path, INFERENCE)).start()

    assert running_stack(tmp_path) is None
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


async def test_external_services_are_used(tmp_path: Path, kafka: str, valkey: str) -> None:
    options = StackOptions(tmp_path, {}, external=ExternalServices(broker=kafka, redis_url=valkey))
    async with Stack(options) as stack:
        assert (stack.broker, stack.redis_url, stack.model_url) == (kafka, valkey, None)
        state = running_stack(tmp_path)
    assert state is not None
    assert [(part.name, part.ours, part.pid) for part in state.parts] == [
        ("kafka", False, None),
        ("redis", False, None),
    ]


async def test_a_part_that_cannot_start_stops_the_others(tmp_path: Path, kafka: str) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF, it says")
    options = StackOptions(tmp_path / "stack", INFERENCE, external=ExternalServices(broker=kafka), model=bad)
    events = StackEvents()

    with pytest.raises(SetupError, match=r"the model server ended with exit code 1: .*bad.gguf.*model.log") as error:
        await Stack(options, on_event=events.add).start()

    assert "\n" not in str(error.value)
    assert running_stack(tmp_path / "stack") is None


async def test_a_worker_that_cannot_start_is_one_clear_line(
    tmp_path: Path, kafka: str, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISE_INFERENCE_BACKENDS", '{"default": {"url": "nonsense", "model": "m"}}')
    options = StackOptions(tmp_path, INFERENCE, external=ExternalServices(kafka, valkey))

    with pytest.raises(SetupError, match=r"inference-1 ended with exit code 1: .*BACKENDS.*inference-1.log") as error:
        await Stack(options).start()

    assert "\n" not in str(error.value)


async def test_a_stack_cancelled_during_its_start_leaves_no_process(tmp_path: Path) -> None:
    events = StackEvents()
    starting = asyncio.create_task(Stack(StackOptions(tmp_path, {}), on_event=events.add).start())
    await events.until("redis", "ready")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert running_stack(tmp_path) is None
