"""Figures of the retrieval tier on the demo corpus: `python tests/benchmarks/retrieval.py [--mesh]`.

Measures loading, splitting, embedding, searching and reloading, and the ranks of the right passages of some questions.
With `--mesh`, measures on a separate Kafka how long the corpus takes from publication until its last document is found.
"""

import argparse
import asyncio
import logging
import pydoc_data.topics
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from poise.contracts import Document, Epoch, Manifest, PassageRecord, Retrieve
from poise.contracts.topics import DOCUMENTS
from poise.kafka import topic_setup
from poise.kafka.record import Record
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.stack.kafka import Kafka
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.retrieval.embedding import MiniLm
from poise_services.retrieval.handlers import handlers
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.passages import PassageContent, encode_vector, split_document
from poise_services.retrieval.settings import RetrievalSettings
from poise_services.retrieval.store import IndexFolder, IndexStore, StoreOrigin

TOPICS = pydoc_data.topics.topics
QUESTIONS = {
    "What does the pass statement do?": "is a null operation",
    "What is the difference between is and ==?": "on the identity of the objects",
    "What happens in the else clause of a try statement?": "is executed if the control flow leaves",
    "How are default parameter values evaluated?": "Default parameter values are evaluated from left to right",
    "What does the break statement do?": "terminates the nearest enclosing loop",
    "When is the else clause of a while loop executed?": 'the suite of the "else" clause, if present, is executed',
    "What is a lambda expression?": "Lambda expressions (sometimes called lambda forms)",
    "What does the with statement do?": "used to wrap the execution of a block",
    "Which values are considered false?": "built-in objects considered false",
    "What does str.capitalize return?": "Return a copy of the string with its first character capitalized",
    "What happens when an assert statement fails?": "raise AssertionError",
    "What does the nonlocal statement do?": "causes the listed identifiers to refer to",
    "What is raised when a name is not found?": "NameError",
    "What does __init__ do?": "Called after the instance has been created",
    "Can I use await outside a coroutine function?": "Can only be used inside",
}


def say(what: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(f"{what:<46} {value:>10,.2f} {unit}")  # noqa: T201 - a benchmark prints figures


def records(texts: dict[str, list[PassageContent]], vectors: dict[PassageContent, str]) -> list[Record]:
    """Return the corpus as records of poise.passages."""
    found: list[Record] = []

    def add(message: PassageRecord | Manifest, version: int) -> None:
        headers = (("poise-kind", message.kind.encode()), ("poise-doc-version", str(version).encode()))
        found.append(Record("poise.passages", 0, len(found), time.time(), b"", message.encode(), headers))

    for version, (name, said) in enumerate(texts.items()):
        for number, body in enumerate(said):
            add(
                PassageRecord(
                    document=name,
                    part=number,
                    source=name,
                    heading=body.heading,
                    text=body.text,
                    vector=vectors[body],
                    model="m",
                    published=time.time(),
                ),
                version,
            )
        add(Manifest(document=name, parts=len(said), published=time.time()), version)
    return found


async def alone() -> None:
    """Measure what needs no broker."""
    started, cpu = time.perf_counter(), time.process_time()
    async with MiniLm() as embedder:
        await embedder.wait_loaded()
        say("embedder: load, wall", time.perf_counter() - started, "s")
        say("embedder: load, CPU", time.process_time() - cpu, "s")

        started = time.perf_counter()
        texts = {name: split_document(Document(text=text, source=name)) for name, text in TOPICS.items()}
        said = list(dict.fromkeys(body for parts in texts.values() for body in parts))
        say("splitting: whole corpus", (time.perf_counter() - started) * 1000, "ms")
        say("splitting: passages", sum(map(len, texts.values())), "")
        say("splitting: distinct texts", len({body.text for body in said}), "")

        started, cpu = time.perf_counter(), time.process_time()
        embedded = await embedder.embed_texts([body.embedding_text for body in said])
        distinct = len({body.embedding_text for body in said})
        say("embedding: distinct texts", distinct, "")
        vectors = {body: encode_vector(vector) for body, vector in zip(said, embedded, strict=True)}
        say("embedding: by the wall clock", distinct / (time.perf_counter() - started), "passages/s")
        say("embedding: by CPU", distinct / (time.process_time() - cpu), "passages/s")
        queries = [await embedder.embed_query(question) for question in QUESTIONS]
        say(
            "embedding: a query, p50",
            await timed(lambda: embedder.embed_query(f"What does pass do? {uuid4().hex[:4]}")),
            "ms",
        )
        backlog = asyncio.create_task(embedder.embed_texts([f"{body.embedding_text} again" for body in said]))
        say(
            "embedding: a query beside a backlog, p50",
            await timed(lambda: embedder.embed_query(f"What does pass do? {uuid4().hex[:4]}")),
            "ms",
        )
        backlog.cancel()

    with tempfile.TemporaryDirectory() as root, IndexFolder(Path(root)) as folder:
        origin = StoreOrigin("d", "p", "m")
        store = folder.open(origin, checkpoint_interval=1e9)
        log = records(texts, vectors)
        started = time.perf_counter()
        for record in log:
            store.apply(record)
        say("index: apply the corpus", (time.perf_counter() - started) * 1000, "ms")
        started = time.perf_counter()
        store.checkpoint()
        say("index: checkpoint", (time.perf_counter() - started) * 1000, "ms")
        search(store, queries)
        store.close()
        started = time.perf_counter()
        store = folder.open(origin, checkpoint_interval=1e9)
        say("index: reload", (time.perf_counter() - started) * 1000, "ms")
        store.close()


def search(store: IndexStore, queries: list[Any]) -> None:
    """Print the duration and the results of searches."""
    took, ranks = [], {}
    for question, vector in zip(QUESTIONS, queries, strict=True):
        for _ in range(20):
            started = time.perf_counter()
            found = store.index.search(question, vector, limit=6, candidates=50)
            took.append((time.perf_counter() - started) * 1000)
        texts = [" ".join(passage.text.split()) for passage in found]
        ranks[question] = next((rank for rank, text in enumerate(texts, 1) if QUESTIONS[question] in text), None)
    say("search: p50", statistics.median(took), "ms")
    say("search: p99", statistics.quantiles(took, n=100)[98], "ms")
    for question, rank in ranks.items():
        print(f"  {'rank ' + str(rank) if rank else 'missed':<8} {question}")  # noqa: T201 - as above


async def timed(work: Any, times: int = 30) -> float:
    """Return the median duration in milliseconds."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


async def meshed() -> None:
    """Measure ingestion through Kafka and one worker."""
    with tempfile.TemporaryDirectory() as folder:
        async with Kafka(Path(folder) / "kafka") as node:
            settings = MeshSettings(broker=node.bootstrap, state_dir=Path(folder))
            await topic_setup.apply(settings)
            await on(settings)


async def on(settings: MeshSettings) -> None:
    """Measure ingestion through this broker."""
    async with (
        MiniLm(embedding_threads=RetrievalSettings().embedding_threads) as embedder,
        WorkerRuntime(settings, tier="retrieval") as mesh,
        LiveIndex(mesh, RetrievalSettings(), embedder.model) as live_index,
        WorkerRuntime(MeshSettings(broker=settings.broker), tier="client") as client,
    ):
        await embedder.wait_loaded()
        serving = asyncio.create_task(
            mesh.serve(Tier("retrieval", handlers(RetrievalSettings(), embedder, live_index)))
        )
        started = time.perf_counter()
        epoch = Epoch(await client.logs.topic_id(DOCUMENTS.name))
        for name, text in TOPICS.items():
            position = await client.producer.publish(DOCUMENTS, Document(text=text, source=name), key=name)
            epoch = epoch.with_offset(position.partition, position.offset, time.time())
        say("mesh: corpus published", time.perf_counter() - started, "s")
        await retrieve(client, epoch)
        say("mesh: corpus embedded, indexed and found", time.perf_counter() - started, "s")
        say("mesh: retrieve, p50", await timed(lambda: retrieve(client, epoch)), "ms")
        started = time.perf_counter()
        position = await client.producer.publish(
            DOCUMENTS, Document(text="A new document.", source="n"), key=uuid4().hex
        )
        await retrieve(client, epoch.with_offset(position.partition, position.offset, time.time()))
        say("mesh: one more document, published to found", (time.perf_counter() - started) * 1000, "ms")
        mesh.stop.set()
        await serving


async def retrieve(client: WorkerRuntime, epoch: Epoch) -> None:
    """Send one retrieve request that waits for the epoch."""
    deadline = time.time() + 120
    await client.rpc.call(
        Retrieve(query=f"What does pass do? {uuid4().hex[:4]}"),
        CallOptions(run=uuid4().hex, step="s", deadline=deadline, min_epoch=epoch.encode()),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", action="store_true")
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(meshed() if parser.parse_args().mesh else alone())
