"""Injections by an operator of Kafka: recreated topics, a partition without a leader."""

import asyncio
import random
import time
from typing import Final

from two_node_mesh import TwoNodeMesh

from poise.contracts.topics import (
    ASK_INTERACTIVE,
    CANCEL,
    DOCUMENTS,
    FEEDBACK,
    INFERENCE_BATCH,
    PASSAGES,
    POLICY,
    RECORDS,
    REPLIES,
    RETRIEVAL_INTERACTIVE,
    SPANS,
    VERSIONS,
)
from poise.errors import FaultError, SetupError, UnavailableError
from tests.soak.injection import UnexpectedError
from tests.soak.load import Load

RECREATED: Final = (
    *(ASK_INTERACTIVE, RETRIEVAL_INTERACTIVE, INFERENCE_BATCH, CANCEL, POLICY, VERSIONS, REPLIES, RECORDS, FEEDBACK),
    *(SPANS, DOCUMENTS, PASSAGES),
)
READY_WITHIN: Final = 60.0
TRIED_FOR: Final = 8.0
"""Seconds that one ask has, until there is an answer."""
AWAY_FOR: Final = 70.0
"""Seconds: longer than the 40 for which aiokafka keeps a batch."""

_one_at_a_time = asyncio.Lock()


async def topic_recreated(load: Load, chance: random.Random) -> str:
    """Delete a topic and create it again: an ask is answered. What it held of documents is put in again, and found."""
    async with _one_at_a_time:
        topic = chance.choice(RECREATED)
        await load.ground.recreate(topic)
        if topic is DOCUMENTS:  # versions of documents are offsets: what was made of them goes too, as the worker says
            await load.ground.recreate(PASSAGES)
        if topic in {DOCUMENTS, PASSAGES}:
            await _ingest(load.ground)
        await _answers(load)
    return topic.name


async def without_leader(ground: TwoNodeMesh) -> str:
    """Some partitions have no leader for 70 s; then the node is back, and everything is ready by itself."""
    async with ground.without_leader():
        await asyncio.sleep(AWAY_FOR)
    await _ready(ground)
    return "ready again"


async def _ingest(ground: TwoNodeMesh) -> None:
    """Put the corpus in again, as soon as the brokers know the topic."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    return await ground.ingest()
                except (SetupError, UnavailableError, FaultError):
                    await asyncio.sleep(1.0)
    except TimeoutError as error:
        raise UnexpectedError(f"documents cannot be found {READY_WITHIN:.0f} s later") from error


async def _answers(load: Load) -> None:
    """Ask until there is an answer; some asks come to a partition that has no leader now."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                deadline = {"poise-deadline": f"{round((time.time() + TRIED_FOR) * 1_000)}"}
                asked = {"question": "How does a lighthouse warn ships?"}
                response = await load.http.post("/v1/ask", json=asked, headers=deadline)
                if response.is_success:
                    return
                await asyncio.sleep(1.0)
    except TimeoutError as error:
        raise UnexpectedError(f"no ask is answered {READY_WITHIN:.0f} s later") from error


async def _ready(ground: TwoNodeMesh) -> None:
    readiness: dict[str, bool] = {}
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not all((readiness := await ground.readiness()).values()):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.5)
    except TimeoutError as error:
        waiting = [name for name, ready in readiness.items() if not ready]
        raise UnexpectedError(f"not ready {READY_WITHIN:.0f} s later: {', '.join(waiting)}") from error
