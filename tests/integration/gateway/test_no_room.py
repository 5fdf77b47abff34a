"""Asks of a hanging model fill a worker: further asks get `Retry-After`, and succeed once there is capacity."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
from integration_kit import until

from poise.contracts import Answer, Ask
from poise.contracts.topics import dead_letter_topic_name
from poise.kafka import consumer
from poise.kafka.consumer import ConsumerLimits
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
ROOM = 1 + ConsumerLimits().parked_factor
"""The queue limit of a worker that handles one message at a time."""


async def test_an_ask_beyond_the_queue_limit_gets_retry_after(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "REJECT_AFTER", 0.5)
    started, answers = set[str](), asyncio.Event()

    async def answer(ask: Ask, context: Context) -> Answer:
        started.add(ask.question)
        if ask.question != "quick":
            async with context.parked():
                await answers.wait()
        return Answer(run_id=context.run, text=ask.question, rung="primary")

    async with open_gateway(answer, concurrency=1) as (client, mesh):
        headers = {"poise-deadline": str(round((time.time() + 300) * 1_000))}

        async def post(question: str) -> httpx2.Response:
            body = {"question": question, "conversation": "one"} if question == "quick" else {"question": question}
            return await client.post("/v1/ask", json=body, headers=headers, timeout=60)

        silent = [asyncio.create_task(post(f"silent {number}")) for number in range(ROOM)]
        await until(lambda: len(started) == ROOM)
        rejected = await post("quick")
        assert (rejected.status_code, rejected.json()["type"], rejected.headers["retry-after"]) == (
            503,
            "urn:poise:temporary",
            "5",
        )
        assert rejected.json()["retryable"] is True
        assert "quick" not in started
        answers.set()
        assert (await post("quick")).status_code == 200
        assert [(await one).status_code for one in silent] == [200] * ROOM
        assert not [r for r in await mesh.logs.read_topic(dead_letter_topic_name("orchestration")) if r.key == b"one"]
