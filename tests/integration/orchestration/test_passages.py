"""Cached passages replace retrieval while it is down, on a real Kafka and a real Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from uuid import uuid4

import pytest
from integration_kit import serving

from poise.contracts import Answer, Ask, Completion, DocumentVersion, Envelope, Generate, Passage, Passages, Retrieve
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import DOCUMENTS, VERSIONS
from poise.errors import FaultError, UnavailableError
from poise.ingestion.epoch_validator import invalid_epoch
from poise.redis.client import RedisClient
from poise.redis.passage_store import CachedPassages, PassageStore, passage_key
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.orchestration.document_versions import follow_versions
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings

pytestmark = pytest.mark.integration

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
EPOCH, LATER = "e1.AAAA.0~7~1000", "e1.AAAA.0~8~2000"
FOUND = Passages(passages=(Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=5.0),), epoch=EPOCH)
NOTHING = Passages(passages=(), epoch=LATER, mode="none")


@dataclass
class Retrieval:
    """A scripted retrieval tier."""

    finds: Passages | Exception | None = FOUND
    """None = the tier hangs."""

    async def find(self, _: Retrieve, __: Context) -> Passages:
        if self.finds is None:
            await asyncio.Event().wait()
        if isinstance(self.finds, Exception):
            raise self.finds
        assert self.finds is not None
        return self.finds


async def write(_: Generate, __: Context) -> Completion:
    return Completion(text=SENTENCE, model="m", backend="default", finish_reason="stop")


@asynccontextmanager
async def running_mesh(
    settings: MeshSettings, retrieval: Retrieval, passages_ttl: float = 60.0
) -> AsyncIterator[WorkerRuntime]:
    answering = OrchestrationSettings.model_validate({"ladder": {"passages_ttl": passages_ttl}})
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(WorkerRuntime(settings, tier="client"))
        versions = await stack.enter_async_context(follow_versions(mesh, answering))
        for tier in (
            Tier("orchestration", handlers(answering, mesh, versions=versions)),
            Tier("retrieval", {Retrieve: retrieval.find}),
            Tier("inference", {Generate: write}),
        ):
            await stack.enter_async_context(serving(settings, tier))
        yield mesh


async def ask(
    mesh: WorkerRuntime, question: str, *, tenant: str = "acme", within: float = 20.0, min_epoch: str | None = None
) -> Answer:
    run = new_run_id(time.time(), Random())
    deadline = time.time() + within
    question = f"Who lit the lamp of Harrow Point ({question})?"  # all tests share the Valkey
    return await mesh.rpc.call(
        Ask(question=question), CallOptions(run=run, step="ask", tenant=tenant, deadline=deadline, min_epoch=min_epoch)
    )


async def test_cached_passages_are_used_and_marked(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval) as mesh:
        first = await ask(mesh, "stands in")
        assert (first.rung, first.retrieval, first.degraded) == ("primary", "hybrid", ())
        retrieval.finds = UnavailableError("the index is away")
        second = await ask(mesh, "STANDS  in")
    assert (second.rung, second.text, second.reason) == ("primary", SENTENCE, None)
    assert (second.retrieval, second.epoch) == ("cached", EPOCH)
    (said,) = second.degraded
    assert said.startswith("retrieval failed: unavailable: the index is away; passages found ")
    assert said.endswith(" s ago are used instead")
    assert second.citations == first.citations


async def test_retrieval_that_hangs_leaves_time_for_the_passages_and_a_model(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval) as mesh:
        await ask(mesh, "hangs")
        retrieval.finds = None
        answer = await ask(mesh, "hangs", within=4.0)
    assert (answer.rung, answer.retrieval) == ("primary", "cached")


async def test_cached_passages_are_not_used_if_the_index_finds_nothing(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval) as mesh:
        await ask(mesh, "deleted")
        retrieval.finds = NOTHING
        answer = await ask(mesh, "deleted")
        assert (answer.rung, answer.retrieval, answer.epoch) == ("canned", "none", LATER)
        retrieval.finds = UnavailableError("the index is away")
        answer = await ask(mesh, "deleted")
    assert answer.retrieval == "none", "and what was found before it was deleted is not found again"


async def test_cached_passages_below_the_requested_epoch_are_not_used(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval) as mesh:
        await ask(mesh, "epoch")
        retrieval.finds = UnavailableError("the index is away")
        answers = [await ask(mesh, "epoch", min_epoch=epoch) for epoch in (EPOCH, LATER)]
    assert [(answer.rung, answer.retrieval) for answer in answers] == [("primary", "cached"), ("canned", "none")]


async def test_an_unreachable_epoch_is_the_callers_mistake(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval(invalid_epoch("there is no document"))
    async with running_mesh(mesh_settings, retrieval) as mesh:
        with pytest.raises(FaultError, match="there is no document") as error:
            await ask(mesh, "impossible", min_epoch=LATER)
    assert [one.field for one in error.value.fault().errors] == ["poise-min-epoch"]


async def test_cached_passages_of_deleted_documents_are_not_used(mesh_settings: MeshSettings) -> None:
    document = f"deleted-{uuid4().hex}"
    only = FOUND.passages[0].model_copy(update={"id": f"{document}#0"})
    retrieval = Retrieval(FOUND.model_copy(update={"passages": (only,)}))
    async with running_mesh(mesh_settings, retrieval) as mesh:
        await ask(mesh, "deleted since")
        retrieval.finds = UnavailableError("the index is away")
        before = await ask(mesh, "deleted since")
        said = DocumentVersion(documents=await mesh.logs.topic_id(DOCUMENTS.name), digest=None)
        await mesh.producer.publish(VERSIONS, said, key=document, envelope=Envelope(doc_version=9))
        after = await ask(mesh, "deleted since")
    assert (before.rung, before.retrieval) == ("primary", "cached")
    assert (after.rung, after.retrieval) == ("canned", "none")


async def test_passages_are_cached_per_tenant(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval) as mesh:
        await ask(mesh, "tenant")
        retrieval.finds = UnavailableError("the index is away")
        answer = await ask(mesh, "tenant", tenant="other")
    assert answer.rung == "canned"


async def test_passages_are_cached_only_if_configured(mesh_settings: MeshSettings) -> None:
    retrieval = Retrieval()
    async with running_mesh(mesh_settings, retrieval, passages_ttl=0.0) as mesh:
        await ask(mesh, "not kept")
        retrieval.finds = UnavailableError("the index is away")
        assert (await ask(mesh, "not kept")).rung == "canned"


async def test_an_unreadable_entry_counts_as_missing(valkey: str) -> None:
    async with RedisClient(valkey) as cache:
        store = PassageStore(cache, 60.0)
        kept = CachedPassages(retrieved_at=1.5, reply=FOUND)
        await store.put("acme", "a", 6, kept)
        assert await store.get("acme", "a", 6) == kept
        assert await store.get("acme", "a", 5) is None
        assert await store.get("acm", "a", 6) is None
        await cache.put(passage_key("acme", "a", 6), b'{"at": "of another form"}', 60.0)
        assert await store.get("acme", "a", 6) is None


async def test_without_redis_no_passages_are_cached() -> None:
    store = PassageStore(RedisClient(None), 60.0)
    await store.put("acme", "a", 6, CachedPassages(retrieved_at=1.5, reply=FOUND))
    assert await store.get("acme", "a", 6) is None
    assert not store.configured
