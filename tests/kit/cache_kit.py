"""Shared by the tests of the answer cache: a mesh with a real index, and a model that records and delays requests."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import uuid4

import numpy as np
from chaos_kit import settled
from integration_kit import serving, settings_for_another_process, until
from retrieval_kit import RandomEmbedder

from poise.contracts import Answer, Ask, Completion, Document, Epoch, Generate, Retrieve
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import DOCUMENTS
from poise.errors import UnavailableError
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.orchestration.document_versions import follow_versions
from poise_services.orchestration.handlers import handlers as orchestration_handlers
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.retrieval.handlers import handlers as retrieval_handlers
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.settings import RetrievalSettings


class WordEmbedder(RandomEmbedder):
    """An embedder that gives similar vectors to texts with common words."""

    def vector(self, text: str) -> np.ndarray:
        added = sum(
            [super(WordEmbedder, self).vector(word) for word in re.findall(r"\w+", text.lower())], np.zeros(384)
        )
        return (added / np.linalg.norm(added)).astype(np.float32)


@dataclass
class FirstSentenceModel:
    """A model that answers with the first sentence of its prompt."""

    prompts: list[str] = field(default_factory=list)
    """The prompts it received."""
    unavailable: bool = False
    release: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.release.set()

    async def write(self, request: Generate, _: Any) -> Completion:
        """Handle `Generate`."""
        prompt = request.messages[-1].content
        self.prompts.append(prompt)
        self.begun.set()
        await self.release.wait()
        if self.unavailable:
            raise UnavailableError("the model is away")
        return Completion(text=prompt.partition("\n")[0], model="m", backend="default", finish_reason="stop")


@dataclass
class CorpusClient:
    """A client that ingests and asks, with its own tenant."""

    mesh: WorkerRuntime
    tenant: str = field(default_factory=lambda: f"tenant-{uuid4().hex[:8]}")

    documents: set[str] = field(default_factory=set)
    """The documents that were ingested."""

    async def put(self, document: str, text: str | None) -> str:
        """Ingest a document, or delete it (None); wait until retrieval has applied it, and return the epoch."""
        self.documents.add(document)
        body = None if text is None else Document(text=text, source=f"The book of {document}")
        at = await self.mesh.producer.publish(DOCUMENTS, body, key=document)
        epoch = Epoch(await self.mesh.logs.topic_id(DOCUMENTS.name), {at.partition: (at.offset, 0.0)}).encode()
        await self.mesh.rpc.call(
            Retrieve(query=document), CallOptions(run=uuid4().hex, step="retrieve", min_epoch=epoch)
        )
        return epoch

    async def ask(self, question: str, *, within: float = 20.0, min_epoch: str | None = None, **how: Any) -> Answer:
        """Ask as the gateway does."""
        return await self.mesh.rpc.call(
            Ask(question=question, **how),
            CallOptions(
                run=new_run_id(time.time(), Random()),
                step="ask",
                tenant=self.tenant,
                deadline=time.time() + within,
                min_epoch=min_epoch,
            ),
        )


@asynccontextmanager
async def orchestrating(settings: MeshSettings, own: OrchestrationSettings) -> AsyncIterator[WorkerRuntime]:
    """Run an orchestration worker with its cache; yield when it is ready, and stop it as a signal does."""
    async with WorkerRuntime(settings, tier="orchestration") as mesh, follow_versions(mesh, own) as versions:
        task = asyncio.create_task(
            mesh.serve(Tier("orchestration", orchestration_handlers(own, mesh, versions=versions)))
        )
        try:
            await until(lambda: task.done() or all(mesh.readiness().values()))
            if task.done():
                await task
            yield mesh
        finally:
            mesh.stop.set()
            await task


@asynccontextmanager
async def retrieving(settings: MeshSettings) -> AsyncIterator[WorkerRuntime]:
    """Run a retrieval worker with an index; yield when it is ready."""
    async with (
        WorkerRuntime(settings, tier="retrieval") as mesh,
        LiveIndex(mesh, RetrievalSettings(), RandomEmbedder.model) as live_index,
    ):
        tier = Tier("retrieval", retrieval_handlers(RetrievalSettings(), WordEmbedder(), live_index))
        task = asyncio.create_task(mesh.serve(tier))
        try:
            await until(lambda: task.done() or all(mesh.readiness().values()))
            if task.done():
                await task
            yield mesh
        finally:
            mesh.stop.set()
            await task


def cache_settings(**cache: Any) -> OrchestrationSettings:
    """Return an orchestration worker's settings: one passage, so that an answer depends on one document."""
    ladder = cache.pop("ladder", {})
    return OrchestrationSettings(top_k=1, cache=cache, ladder=ladder)


@asynccontextmanager
async def cached_mesh(
    settings: MeshSettings, model: FirstSentenceModel, *, workers: int = 1, **cache: Any
) -> AsyncIterator[CorpusClient]:
    """Run workers of all tiers that answer asks; yield a client."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(retrieving(settings))
        await stack.enter_async_context(
            serving(settings_for_another_process(settings), Tier("inference", {Generate: model.write}))
        )
        for _ in range(workers):
            await stack.enter_async_context(
                orchestrating(settings_for_another_process(settings), cache_settings(**cache))
            )
        client = CorpusClient(
            await stack.enter_async_context(WorkerRuntime(settings_for_another_process(settings), tier="client"))
        )
        try:
            yield client
        finally:  # otherwise the next test would find the documents, and handle asks that are still open
            model.release.set()
            for document in sorted(client.documents):
                await client.put(document, None)
            await settled(settings.broker, every=0.05)
