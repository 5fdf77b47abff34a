"""The act's deployment: workers get its variants, and their own environment back when the act ends."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from poise.errors import SetupError
from poise.stack.stack import Stack
from poise_labs.balance.environment import deployed

BACKEND = {"url": "http://127.0.0.1:1/v1", "model": "small"}


class RecordedStack:
    """A stack without processes that records which worker is restarted with which variables."""

    def __init__(self, *tiers: str, backends: Mapping[str, Any] = MappingProxyType({"default": BACKEND})) -> None:
        self.workers = [SimpleNamespace(name=f"{tier}-1", tier=tier, overrides={}) for tier in tiers]
        self.backends = backends
        self.restarts: list[tuple[str, list[str]]] = []

    async def restart_part(self, name: str, *, environment: Mapping[str, str]) -> None:
        self.restarts.append((name, sorted(environment)))


async def test_the_workers_get_their_environment_back_when_the_act_is_interrupted() -> None:
    stack = RecordedStack("retrieval", "inference", "orchestration")
    deploying = asyncio.Event()

    async def act() -> None:
        async with deployed(cast("Stack", stack), "balance"):
            deploying.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await deploying.wait()
    assert [name for name, _ in stack.restarts] == ["inference-1", "orchestration-1"]
    assert all(variables for _, variables in stack.restarts)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stack.restarts[2:] == [("inference-1", []), ("orchestration-1", [])]


async def test_a_stack_without_a_default_model_server_is_refused() -> None:
    with pytest.raises(SetupError, match="needs a default model server"):
        async with deployed(cast("Stack", RecordedStack("inference", backends={})), "balance"):
            pass
