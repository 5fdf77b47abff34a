"""Asking: what a request may say about its epoch, and what it gets."""

import asyncio
import time
from uuid import uuid4

import pytest
from retrieval_kit import Client, Workers

from poise.contracts import Epoch, Passages, Retrieve
from poise.contracts.topics import DOCUMENTS
from poise.errors import FaultError

pytestmark = pytest.mark.integration


async def ask(client: Client, min_epoch: str | None, within: float = 20.0) -> Passages:
    return await client.mesh.call(
        Retrieve(query="anything"), run=uuid4().hex, step="s", deadline=time.time() + within, min_epoch=min_epoch
    )


async def test_an_epoch_that_is_none_is_refused_by_name(client: Client, serving: Workers) -> None:
    async with serving():
        with pytest.raises(FaultError, match="poise-min-epoch: an epoch begins with e1") as error:
            await ask(client, "yesterday")
        assert error.value.fault().status == 400


async def test_an_epoch_of_a_topic_that_is_no_more_is_refused(client: Client, serving: Workers) -> None:
    async with serving():
        with pytest.raises(FaultError, match="no more"):
            await ask(client, Epoch("another", {0: (1, 1.0)}).encode())


async def test_an_epoch_that_never_comes_is_a_fault_before_the_deadline(client: Client, serving: Workers) -> None:
    async with serving():
        never = Epoch(await client.mesh.topic_id(DOCUMENTS.name), {0: (10**9, 1.0)})
        with pytest.raises(FaultError) as error:
            await ask(client, never.encode(), within=2.0)
        assert error.value.fault().type == "urn:poise:deadline-exceeded"


async def test_a_request_waits_for_its_epoch(client: Client, serving: Workers, key: str) -> None:
    async with serving() as worker:
        worker.embedder.go_on.clear()
        position = await client.say(key, "the axolotl regrows")
        asked = asyncio.create_task(client.find("axolotl", after=position))
        await worker.embedder.begun.wait()
        assert not asked.done()
        worker.embedder.go_on.set()
        found = await asked
        assert Epoch.decode(found.epoch).reached(Epoch.decode(await client.epoch(position)))
        assert found.passages[0].text == "the axolotl regrows"
