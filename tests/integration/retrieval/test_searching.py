"""Requests with a minimum epoch, and the size of replies."""

import asyncio
import time
from uuid import uuid4

import pytest
from retrieval_kit import RetrievalClient, StartWorker

from poise.contracts import Envelope, Epoch, Manifest, PassageRecord, Passages, Retrieve
from poise.contracts.topics import DOCUMENTS, PASSAGES
from poise.errors import FaultError
from poise.rpc.client import CallOptions
from poise_services.retrieval.passages import encode_vector, manifest_key, passage_record_key
from poise_services.retrieval.settings import RetrievalSettings

pytestmark = pytest.mark.integration

MANY = 200
"""More than a worker handles at once, and more than may wait for an epoch."""
LONG = 120.0
"""Seconds: longer than anything here takes."""


async def ask(client: RetrievalClient, min_epoch: str | None, within: float = 20.0) -> Passages:
    return await client.mesh.rpc.call(
        Retrieve(query="anything"),
        CallOptions(run=uuid4().hex, step="s", deadline=time.time() + within, min_epoch=min_epoch),
    )


async def test_an_invalid_epoch_is_rejected_by_name(client: RetrievalClient, serving: StartWorker) -> None:
    async with serving():
        with pytest.raises(FaultError, match="poise-min-epoch: an epoch begins with e1") as error:
            await ask(client, "yesterday")
        assert error.value.fault().status == 400


@pytest.mark.parametrize(
    ("topic_id", "part", "message"),
    [
        ("another", (0, 1), "to a deleted poise.documents"),
        (None, (0, 10**9), "names offset 1000000000 of partition 0 of poise.documents, which ends at "),
        (None, (6, 0), "names partition 6 of poise.documents, which has 6"),
    ],
)
async def test_an_unreachable_epoch_is_rejected_at_once(
    client: RetrievalClient, serving: StartWorker, topic_id: str | None, part: tuple[int, int], message: str
) -> None:
    async with serving():
        partition, offset = part
        never = Epoch(topic_id or await client.mesh.logs.topic_id(DOCUMENTS.name), {partition: (offset, 1.0)})
        with pytest.raises(FaultError, match=message) as error:
            await ask(client, never.encode(), within=LONG)
    fault = error.value.fault()
    assert (fault.type, [one.field for one in fault.errors]) == ("urn:poise:invalid", ["poise-min-epoch"])


async def test_an_epoch_that_is_never_reached_is_a_fault_before_the_deadline(
    client: RetrievalClient, serving: StartWorker
) -> None:
    async with serving():
        with pytest.raises(FaultError) as error:
            await ask(client, await never_reached(client), within=2.0)
        assert error.value.fault().type == "urn:poise:deadline-exceeded"


async def test_requests_waiting_for_an_epoch_block_no_others(client: RetrievalClient, serving: StartWorker) -> None:
    async with serving():
        never = await never_reached(client)
        waiting = [asyncio.create_task(ask(client, never, within=LONG)) for _ in range(MANY)]
        refused, others = await asyncio.gather(
            first_of(waiting, MANY - RetrievalSettings().max_epoch_waiters),
            asyncio.gather(*(ask(client, None) for _ in range(MANY))),
        )
        assert len(others) == MANY
        faults = [error.fault() for task in refused if isinstance(error := task.exception(), FaultError)]
        assert {fault.type for fault in faults} == {"urn:poise:temporary"}
        assert len(faults) == len(refused)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def never_reached(client: RetrievalClient) -> str:
    """Return a valid epoch that is never reached: its document becomes a dead letter."""
    return await client.epoch_at(
        await client.mesh.producer.records.send(DOCUMENTS.name, b"no document", key=b"none", headers=[])
    )


async def first_of(tasks: list[asyncio.Task[Passages]], number: int) -> list[asyncio.Task[Passages]]:
    """Wait until this number of tasks are done; return them."""
    async with asyncio.timeout(LONG / 2):
        while len(ended := [task for task in tasks if task.done()]) < number:
            running = [task for task in tasks if not task.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    return ended


async def test_a_request_waits_for_its_epoch(client: RetrievalClient, serving: StartWorker, key: str) -> None:
    async with serving() as worker:
        worker.embedder.resumed.clear()
        position = await client.put(key, "the axolotl regrows")
        search = asyncio.create_task(client.search("axolotl", after=position))
        await worker.embedder.started.wait()
        assert not search.done()
        worker.embedder.resumed.set()
        found = await search
        assert Epoch.decode(found.epoch).reached(Epoch.decode(await client.epoch_at(position)))
        assert found.passages[0].text == "the axolotl regrows"


async def test_documents_that_are_mostly_white_space_are_found(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    async with serving():
        first = await client.put(f"{key}-1", "The quokka" + " " * 790_000 + " smiles.")
        second = await client.put(f"{key}-2", " " * 790_000 + "A quokka waves.")
        await client.search("quokka", after=first)
        found = await client.search("quokka", after=second)
        assert {passage.text for passage in found.passages} >= {"The quokka smiles.", "A quokka waves."}
        assert found.reason is None


async def test_passages_that_do_not_fit_the_reply_are_dropped_with_a_reason(
    client: RetrievalClient, serving: StartWorker, key: str
) -> None:
    """Publish passages of a size that only an older version of Poise publishes."""
    async with serving() as worker:
        for number in range(2):
            document = f"{key}-{number}"
            vector = encode_vector(worker.embedder.vector(document))
            text = f"numbat {number} " + "x" * 700_000
            model = worker.embedder.model
            part = PassageRecord(
                document=document, part=0, source="s", text=text, vector=vector, model=model, published=1.5
            )
            manifest = Manifest(document=document, parts=1, published=1.5)
            for name, body in ((passage_record_key(document, 0), part), (manifest_key(document), manifest)):
                at = await client.mesh.producer.publish(
                    PASSAGES, body, key=name, partition=0, envelope=Envelope(doc_version=1)
                )
        await worker.live_index.wait_applied(at)
        found = await client.mesh.rpc.call(Retrieve(query="numbat", limit=50), CallOptions(run=uuid4().hex, step="s"))
        large, shortened = found.passages[:2]
        assert (len(large.text), len(found.passages)) == (700_009, 2)
        assert 300_000 < len(shortened.text) < 350_000
        assert found.reason is not None
        assert "passages fit into the reply, the last of them shortened" in found.reason
        again = await client.mesh.rpc.call(Retrieve(query="quokka", limit=50), CallOptions(run=uuid4().hex, step="s"))
        assert again.epoch == found.epoch
