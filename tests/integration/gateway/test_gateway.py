"""The gateway from the socket to a tier behind a real Kafka and back."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import httpx2
import pytest
from integration_kit import until

from poise.contracts import Answer, Ask, Document, Epoch, RunRecord
from poise.contracts.topics import DOCUMENTS, RECORDS
from poise.errors import TerminalError
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def answer(ask: Ask, context: Context) -> Answer:
    return Answer(
        run_id=context.run, text=f"You asked: {ask.question}", rung="primary", epoch=context.envelope.min_epoch
    )


async def test_an_ask_is_answered(open_gateway: Open) -> None:
    seen: list[Context] = []

    async def look(ask: Ask, context: Context) -> Answer:
        seen.append(context)
        return await answer(ask, context)

    async with open_gateway(look) as (client, _):
        ingested = await client.post("/v1/documents", json={"id": "a", "text": "b", "source": "c"})
        epoch = ingested.json()["epoch"]
        headers = {"traceparent": PARENT, "poise-min-epoch": epoch, "poise-tenant": "theirs"}
        body = {"question": "Warum, 語?", "conversation": "c-1"}
        response = await client.post("/v1/ask", json=body, headers=headers)
    assert response.status_code == 200
    assert response.json()["text"] == "You asked: Warum, 語?"
    assert response.json()["epoch"] == epoch
    assert response.json()["run_id"] == response.headers["poise-run"] == seen[0].run
    assert (seen[0].tenant, seen[0].step, seen[0].lane) == ("default", "ask", "interactive")
    assert (seen[0].record.topic, seen[0].record.key) == ("poise.runs.interactive", b"c-1")
    trace = PARENT.split("-")[1]
    assert response.headers["traceparent"].split("-")[1] == trace
    assert seen[0].envelope.trace["traceparent"].split("-")[1] == trace


async def test_an_unreachable_epoch_is_rejected_before_the_run_starts(open_gateway: Open) -> None:
    async with open_gateway(answer) as (client, mesh):
        never = Epoch(await mesh.logs.topic_id(DOCUMENTS.name), {2: (10**15, 1.0)}).encode()
        response = await client.post("/v1/ask", json={"question": "Why?"}, headers={"poise-min-epoch": never})
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert error["field"] == "poise-min-epoch"
    assert "partition 2 of poise.documents, which ends at" in error["detail"]


async def test_concurrent_asks_each_get_their_own_answer(open_gateway: Open) -> None:
    async with open_gateway(answer) as (client, _):
        responses = await asyncio.gather(*(client.post("/v1/ask", json={"question": str(n)}) for n in range(200)))
    assert [response.json()["text"] for response in responses] == [f"You asked: {n}" for n in range(200)]


async def test_a_run_is_shown_while_it_runs_and_when_it_has_a_record(open_gateway: Open) -> None:
    began, release = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def recorded(ask: Ask, context: Context) -> Answer:
        runs.append(context.run)
        began.set()
        await release.wait()
        given = await answer(ask, context)
        record = RunRecord(
            run_id=context.run,
            workflow="answer",
            tenant=context.tenant,
            question=ask.question,
            started=time.time(),
            finished=time.time(),
            answer=given,
        )
        await context.publish(RECORDS, record, key=context.run)
        return given

    async with open_gateway(recorded) as (client, _):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await began.wait()
        running = await client.get(f"/v1/runs/{runs[0]}")
        release.set()
        await asking
        finished = await client.get(f"/v1/runs/{runs[0]}")
    assert running.json() == {"run_id": runs[0], "status": "running"}
    assert finished.json()["status"] == "finished"
    assert finished.json()["record"]["answer"]["text"] == "You asked: Why?"


async def test_a_fault_comes_back_as_a_problem(open_gateway: Open) -> None:
    async def fail(_ask: Ask, _context: Context) -> Answer:
        raise TerminalError("there is nothing to be done")

    async with open_gateway(fail) as (client, _):
        response = await client.post("/v1/ask", json={"question": "Why?"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "there is nothing to be done"


async def test_no_answer_before_the_deadline_is_a_problem(open_gateway: Open) -> None:
    async def hang(_ask: Ask, _context: Context) -> Answer:
        return await asyncio.Future()

    async with open_gateway(hang) as (client, _):
        headers = {"poise-deadline": str(round((time.time() + 0.5) * 1_000))}
        response = await client.post("/v1/ask", json={"question": "Why?"}, headers=headers)
    assert response.status_code == 504
    assert response.json()["type"] == "urn:poise:deadline-exceeded"


async def test_a_disconnect_abandons_the_call(open_gateway: Open) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(ask: Ask, context: Context) -> Answer:
        began.set()
        await release.wait()
        return await answer(ask, context)

    async with open_gateway(wait) as (client, mesh):
        assert mesh.rpc._calls is not None
        pending = mesh.rpc._calls._pending
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await began.wait()
        assert len(pending) == 1
        asking.cancel()
        await until(lambda: not pending)
        release.set()


async def test_documents_are_published_and_their_epoch_has_their_positions(open_gateway: Open) -> None:
    ids = [f"{uuid4()}/a.md", f"{uuid4()} b", f"{uuid4()}語"]
    async with open_gateway(answer) as (client, mesh):
        response = await client.post("/v1/documents", json=[{"id": name, "text": f"About {name}"} for name in ids])
        assert response.status_code == 202
        deleted = await client.delete(f"/v1/documents/{ids[0]}")
        assert deleted.status_code == 202
        epoch = Epoch.decode(response.json()["epoch"])
        assert epoch.topic_id == await mesh.logs.topic_id(DOCUMENTS.name)
        for document in response.json()["documents"]:
            (first, *later) = await mesh.logs.read_key(DOCUMENTS.name, document["id"])
            assert (first.partition, first.offset) == (document["partition"], document["offset"])
            assert epoch.partitions[first.partition][0] >= first.offset
            assert Document.parse(first.value or b"") == Document(text=f"About {document['id']}", source=document["id"])
            assert first.header("poise-kind") == "document/1"
            assert [record.value for record in later] == ([None] if document["id"] == ids[0] else [])


async def test_the_largest_document_fits_the_broker(open_gateway: Open) -> None:
    name = str(uuid4())
    text = "語" * 333_000
    async with open_gateway(answer) as (client, mesh):
        body = json.dumps({"id": name, "text": text}, ensure_ascii=False).encode()
        response = await client.post("/v1/documents", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 202
        (record,) = await mesh.logs.read_key(DOCUMENTS.name, name)
    assert 999_000 < len(record.value or b"") <= 1_000_000


async def test_it_is_ready(open_gateway: Open) -> None:
    async with open_gateway(answer) as (client, _):
        response = await client.get("/readyz")
    checks = response.json()["checks"]
    assert response.json() == {"ready": True, "checks": dict.fromkeys(checks, True)}
    assert checks.keys() >= {"started", "broker", "http", "reader of poise.replies", "probe of the broker"}


async def test_pending_asks_finish_during_shutdown(open_gateway: Open) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(ask: Ask, context: Context) -> Answer:
        began.set()
        await release.wait()
        return await answer(ask, context)

    async with open_gateway(wait) as (client, mesh):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await began.wait()
        mesh.stop.set()
        await until(lambda: not mesh.readiness()["http"])
        release.set()
        assert (await asking).status_code == 200


async def test_asks_that_do_not_finish_during_shutdown_get_503(open_gateway: Open) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def wait(ask: Ask, context: Context) -> Answer:
        began.set()
        await release.wait()
        return await answer(ask, context)

    async with open_gateway(wait, grace=0.1) as (client, mesh):
        asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
        await began.wait()
        mesh.stop.set()
        response = await asking
        release.set()
    assert response.status_code == 503
    assert response.json()["detail"].startswith("the gateway is shutting down")
