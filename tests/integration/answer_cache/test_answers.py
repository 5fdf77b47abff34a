"""The answer cache on a real Kafka and a real Valkey, with a real index."""

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from random import Random
from uuid import uuid4

import pytest
from cache_kit import FirstSentenceModel, cache_settings, cached_mesh
from scripted_run import ScriptedRun

from poise.contracts import Answer, Ask, Delta, RunRecord
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import RECORDS
from poise.redis.answer_store import AnswerStoreAdmin
from poise.redis.client import RedisClient
from poise.redis.journal import Journal
from poise.rpc.client import CallOptions
from poise.settings import MeshSettings
from poise.workflows.run import Run
from poise_services.orchestration.answer import AnswerWorkflow
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints
from poise_services.orchestration.document_versions import follow_versions

pytestmark = pytest.mark.integration


def sentence(name: str, keeper: str = "Ada Quill") -> str:
    return f"The lamp of {name} was lit by the keeper {keeper}."


def question(name: str) -> str:
    return f"Who lit the lamp of {name}?"


async def test_a_repeated_ask_is_answered_from_the_cache(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        first = await client.ask(question(name))
        again = await client.ask(f"  who LIT the lamp of\n{name} ? ")
        (record,) = await client.mesh.logs.read_key(RECORDS.name, again.run_id)
    assert (first.text, first.rung, first.cached, first.age) == (sentence(name), "primary", False, None)
    assert (again.text, again.rung, again.cached, again.reason) == (sentence(name), "primary", True, None)
    assert again.age is not None
    assert (again.citations, again.epoch, again.variant) == (first.citations, first.epoch, first.variant)
    assert again.run_id != first.run_id
    assert again.timings.keys() == {"total"}
    assert len(model.prompts) == 1
    assert RunRecord.parse(record.value or b"").cached


async def test_a_changed_document_makes_the_answer_stale_at_once(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, sentence(name, "Bruno Falk"))
        answer = await client.ask(question(name))
        again = await client.ask(question(name))
    assert (answer.text, answer.rung, answer.cached) == (sentence(name, "Bruno Falk"), "primary", False)
    assert (again.text, again.cached) == (sentence(name, "Bruno Falk"), True)


async def test_a_deleted_document_makes_the_answer_stale(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, None)
        answer = await client.ask(question(name))
    assert name not in answer.text
    assert not answer.cached


async def test_ingesting_a_document_unchanged_changes_nothing(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        epoch = await client.put(name, sentence(name))
        answer = await client.ask(question(name))
        assert (answer.cached, len(model.prompts)) == (True, 1)
        later = await client.ask(question(name), min_epoch=epoch)
    assert not later.cached, "it was made before the epoch that is asked for"


async def test_a_stale_answer_is_sent_marked_and_refreshed(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model, stale_while_revalidate=60.0) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, sentence(name, "Bruno Falk"))
        model.release.clear()
        stale = await asyncio.gather(*(client.ask(question(name)) for _ in range(5)))
        assert {(answer.text, answer.rung, answer.cached) for answer in stale} == {(sentence(name), "stale", True)}
        assert all(f"The book of {name} has changed" in (answer.reason or "") for answer in stale)
        model.release.set()
        async with asyncio.timeout(20):
            while (answer := await client.ask(question(name))).rung == "stale":  # noqa: ASYNC110 - another run makes it
                await asyncio.sleep(0.05)
    assert (answer.text, answer.rung, answer.cached) == (sentence(name, "Bruno Falk"), "primary", True)
    assert len(model.prompts) == 2, "many readers, one revalidation"


async def test_a_stale_answer_is_sent_while_the_model_is_down(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, sentence(name, "Bruno Falk"))
        model.unavailable = True
        answer = await client.ask(question(name), within=6)
        passed = await client.ask(question(name), within=6, cache="no-cache")
    assert (answer.text, answer.rung, answer.cached) == (sentence(name), "stale", True)
    assert "has changed" in (answer.reason or "")
    assert answer.age is not None
    assert passed.rung == "extractive", "no-cache excludes cached answers"


async def test_the_text_of_a_deleted_document_is_not_sent_even_marked(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model, stale_while_revalidate=60.0) as client:
        await client.put(f"other-{name}", f"Nobody knows the colour of the lamp of {name}.")
        await client.put(name, sentence(name))
        first = await client.ask(question(name))
        await client.put(name, None)
        model.unavailable = True
        answer = await client.ask(question(name), within=6)
    assert first.text == sentence(name)
    assert answer.rung == "extractive"
    assert "Ada Quill" not in answer.text


async def test_a_replayed_decision_is_marked_after_a_change(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        settings = cache_settings()
        async with follow_versions(client.mesh, settings) as versions:
            assert versions is not None
            workflow = AnswersFromCache(settings, AnswerCache(client.mesh, settings, versions))
            door = ScriptedRun({}, run=uuid4().hex, tenant=client.tenant)

            async def begun() -> Answer:
                history = Journal(client.mesh.redis, door.tenant, door.run, ttl=60.0)
                run = Run(door, history)
                return await run.execute(workflow.answer(run, Ask(question=question(name))))

            first, again = await begun(), await begun()
            await client.put(name, sentence(name, "Bruno Falk"))
            changed = await begun()
    assert [(one.text, one.rung, one.cached) for one in (first, again)] == [(sentence(name), "primary", True)] * 2
    assert (changed.text, changed.rung, changed.cached) == (sentence(name), "stale", True)
    assert changed.reason == f"The book of {name} has changed"


class AnswersFromCache(AnswerWorkflow):
    async def produce(self, _run: Run, _ask: Ask, _hints: CacheHints = NO_CACHE) -> Answer:
        raise AssertionError("it was answered before")


async def test_a_stale_answer_is_not_sent_after_stale_if_error(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model, stale_if_error=0.0) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, sentence(name, "Bruno Falk"))
        model.unavailable = True
        answer = await client.ask(question(name), within=6)
    assert (answer.text, answer.rung) == (sentence(name, "Bruno Falk"), "extractive")


async def test_a_thousand_asks_to_two_workers_cost_one_inference(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model, workers=2) as client:
        await client.put(name, sentence(name))
        answers = await asyncio.gather(*(client.ask(question(name), within=60) for _ in range(1_000)))
        counts = await AnswerStoreAdmin(client.mesh.redis).stats(client.tenant)
    assert {(answer.text, answer.rung) for answer in answers} == {(sentence(name), "primary")}
    assert len({answer.run_id for answer in answers}) == 1_000
    assert Counter(answer.cached for answer in answers) == {False: 1, True: 999}
    assert len(model.prompts) == 1
    assert (counts.misses, counts.hits + counts.shared, counts.entries) == (1, 999, 1)


async def test_concurrent_asks_share_an_answer_that_is_not_stored(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel(unavailable=True)
    async with cached_mesh(mesh_settings, model, workers=2) as client:
        await client.put(name, sentence(name))
        model.release.clear()
        asks = asyncio.gather(*(client.ask(question(name), within=60) for _ in range(100)))
        await model.begun.wait()
        await asyncio.sleep(0)
        model.release.set()
        answers = await asks
        asked = len(model.prompts)
        await client.ask(question(name), within=6)
    assert {answer.rung for answer in answers} == {"extractive"}
    assert sum(not answer.cached for answer in answers) == 1
    assert len(model.prompts) > asked, "a later ask computes the answer again"


async def test_an_ask_with_more_time_does_not_share_a_fallback_for_lack_of_time(
    mesh_settings: MeshSettings, name: str
) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        model.release.clear()
        hurried = asyncio.create_task(client.ask(question(name), within=3))
        await model.begun.wait()
        patient = [asyncio.create_task(client.ask(question(name), within=60)) for _ in range(3)]
        short = await hurried
        model.release.set()
        answers = await asyncio.gather(*patient)
    assert short.rung == "extractive"
    assert {(answer.text, answer.rung) for answer in answers} == {(sentence(name), "primary")}
    assert len(model.prompts) == 2, "one for the hurried ask, one for all others"


async def test_no_cache_does_not_share_a_stale_fallback(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        await client.put(name, sentence(name, "Bruno Falk"))
        model.unavailable = True
        model.begun.clear()
        model.release.clear()
        hurried = asyncio.create_task(client.ask(question(name), within=3))
        await model.begun.wait()
        others = [asyncio.create_task(client.ask(question(name), within=60)) for _ in range(5)]
        uncached = asyncio.create_task(client.ask(question(name), within=60, cache="no-cache"))
        first = await hurried
        model.release.set()  # now another ask computes, and started after all others
        answers = await asyncio.gather(uncached, *others)
    assert first.rung == "stale"
    assert answers[0].rung == "extractive"


async def test_opting_out_of_the_cache(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        assert not (await client.ask(question(name), cache="no-store")).cached
        assert not (await client.ask(question(name))).cached, "no-store stored nothing"
        assert not (await client.ask(question(name), cache="no-cache")).cached
        assert not (await client.ask(question(name), cache="no-store")).cached
        assert (await client.ask(question(name))).cached
    assert len(model.prompts) == 4


async def test_answers_are_cached_per_tenant(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        client.tenant += "-other"
        assert not (await client.ask(question(name))).cached


async def test_the_least_recently_used_answers_are_evicted(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model, max_entries=2) as client:
        await client.put(name, sentence(name))
        questions = [f"{question(name)} {number}" for number in ("One?", "Two?", "Three?")]
        one, two, three = questions
        for asked in (one, two, one, three):
            await client.ask(asked)
        cached = {asked: (await client.ask(asked, min_epoch=None)).cached for asked in (one, three)}
        admin = AnswerStoreAdmin(client.mesh.redis)
        counts = await admin.stats(client.tenant)
        assert not (await client.ask(two)).cached
    assert cached == {one: True, three: True}
    assert counts.entries == 2
    assert counts.bytes > 0


async def test_without_redis_asks_in_one_worker_share(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    nowhere = mesh_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with cached_mesh(nowhere, model) as client:
        await client.put(name, sentence(name))
        model.release.clear()
        asks = asyncio.gather(*(client.ask(question(name)) for _ in range(50)))
        await model.begun.wait()
        model.release.set()
        answers = await asks
    assert {(answer.text, answer.rung) for answer in answers} == {(sentence(name), "primary")}
    assert len(model.prompts) < 50


async def test_a_cached_answer_is_streamed_at_once(mesh_settings: MeshSettings, name: str) -> None:
    async with cached_mesh(mesh_settings, FirstSentenceModel()) as client:
        await client.put(name, sentence(name))
        await client.ask(question(name))
        ask = Ask(question=question(name))
        stream = client.mesh.rpc.stream(
            ask, CallOptions(run=new_run_id(time.time(), Random()), step="ask", tenant=client.tenant)
        )
        async with aclosing(stream):
            *words, answer = [item async for item in stream]
    assert words == [Delta(text=sentence(name))]
    assert isinstance(answer, Answer)
    assert answer.cached


async def test_a_purge_deletes_answers_and_refuses_those_in_production(mesh_settings: MeshSettings, name: str) -> None:
    model = FirstSentenceModel()
    async with cached_mesh(mesh_settings, model) as client, RedisClient(mesh_settings.redis_url) as cache:
        admin = AnswerStoreAdmin(cache)
        await client.put(name, sentence(name))
        await client.ask(question(name))
        model.release.clear()
        model.begun.clear()
        working = asyncio.create_task(client.ask(question(name), cache="no-cache"))
        await model.begun.wait()
        assert not await admin.purge(client.tenant, document="another")
        assert len(await admin.purge(client.tenant, document=name)) == 1
        model.release.set()
        await working
        assert (await admin.stats(client.tenant)).entries == 0
        assert not (await client.ask(question(name))).cached
        assert client.tenant in await admin.tenants()
        assert (await client.ask(question(name))).cached
