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
from tests.soak.load import SoakLoad

RECREATED: Final = (
    *(ASK_INTERACTIVE, RETRIEVAL_INTERACTIVE, INFERENCE_BATCH, CANCEL, POLICY, VERSIONS, REPLIES, RECORDS, FEEDBACK),
    *(SPANS, DOCUMENTS, PASSAGES),
)
READY_WITHIN: Final = 60.0
ASK_TIMEOUT: Final = 8.0
"""Seconds of the deadline of each ask."""
AWAY_FOR: Final = 70.0
"""Seconds: longer than the 40 s after which aiokafka drops an unsent batch."""

_one_at_a_time = asyncio.Lock()


async def topic_recreated(load: SoakLoad, chance: random.Random) -> str:
    """Delete and recreate a topic: an ask is answered. Documents that it had are ingested again, and found."""
    async with _one_at_a_time:
        topic = chance.choice(RECREATED)
        await load.mesh.recreate(topic)
        if topic is DOCUMENTS:  # versions of documents are offsets: the passages are deleted too
            await load.mesh.recreate(PASSAGES)
        if topic in {DOCUMENTS, PASSAGES}:
            await _ingest(load.mesh)
        await _until_answered(load)
    return topic.name


async def without_leader(mesh: TwoNodeMesh) -> str:
    """Stop the node that leads some partitions for 70 s; afterwards every process is ready again."""
    async with mesh.without_leader():
        await asyncio.sleep(AWAY_FOR)
    await _until_ready(mesh)
    return "ready again"


async def _ingest(mesh: TwoNodeMesh) -> None:
    """Ingest the corpus again once the brokers know the topic."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    return await mesh.ingest()
                except (SetupError, UnavailableError, FaultError):
                    await asyncio.sleep(1.0)
    except TimeoutError as error:
        raise UnexpectedError(f"documents cannot be found {READY_WITHIN:.0f} s later") from error


async def _until_answered(load: SoakLoad) -> None:
    """Ask until an ask is answered; some asks go to a partition without a leader."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            while True:
                deadline = {"poise-deadline": f"{round((time.time() + ASK_TIMEOUT) * 1_000)}"}
                asked = {"question": "How does a lighthouse warn ships?"}
                response = await load.http.post("/v1/ask", json=asked, headers=deadline)
                if response.is_success:
                    return
                await asyncio.sleep(1.0)
    except TimeoutError as error:
        raise UnexpectedError(f"no ask is answered {READY_WITHIN:.0f} s later") from error


async def _until_ready(mesh: TwoNodeMesh) -> None:
    readiness: dict[str, bool] = {}
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not all((readiness := await mesh.readiness()).values()):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.5)
    except TimeoutError as error:
        waiting = [name for name, ready in readiness.items() if not ready]
        raise UnexpectedError(f"not ready {READY_WITHIN:.0f} s later: {', '.join(waiting)}") from error
