"""Asks through five tiers of real processes, with a real broker and a real model."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from whole_mesh import WITHIN, WholeMesh, eventually, whole_mesh

from poise.contracts import Answer, Epoch, RunRecord
from poise.contracts.topics import SCORES
from poise.stack.state import PartState
from poise_labs.cli.sample_corpus import corpus

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

WORKERS: Final = {"gateway": 1, "orchestration": 1, "retrieval": 1, "inference": 2, "evaluation": 1}
SUBJECTS: Final = ("assert", "del", "global", "nonlocal", "pass", "return")

QUESTION: Final = "What does the pass statement do?"
SOURCE: Final = "Python language reference: pass"
FACTS: Final = ("null operation", "nothing happens", "placeholder")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeMesh]:
    """Run the mesh of all tests of this module."""
    async with whole_mesh(tmp_path_factory.mktemp("stack"), WORKERS) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def epoch(mesh: WholeMesh) -> str:
    """Ingest the corpus; return its epoch."""
    whole = corpus()
    ingested = await mesh.poise.ingest({f"python/{name}": whole[f"python/{name}"] for name in SUBJECTS})
    return ingested.encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http_answer(mesh: WholeMesh, epoch: str) -> Answer:
    """Return an answer over HTTP."""
    return await mesh.ask_by_http(QUESTION, **{"poise-min-epoch": epoch})


def assert_right(answer: Answer) -> None:
    """Assert that an answer says what `pass` does, cites its source, and has a consistent rung and timings."""
    quotes = [citation.quote for citation in answer.citations]
    assert any(fact in text for fact in FACTS for text in (answer.text, *quotes)), answer
    assert SOURCE in {citation.source for citation in answer.citations}
    assert all(citation.passage.startswith("python/") for citation in answer.citations)
    assert answer.rung in {"primary", "extractive"}
    assert (answer.variant, answer.reason is None) == (("default", True) if answer.rung == "primary" else (None, False))
    assert answer.timings.keys() == {"retrieve", "generate", "total"}
    assert all(ms > 0 for ms in answer.timings.values())
    assert answer.timings["total"] >= answer.timings["retrieve"]


async def test_an_ask_on_the_command_line_is_answered(mesh: WholeMesh, epoch: str) -> None:
    out = await mesh.command("ask", "--json", "--timeout", "60", "--min-epoch", epoch, QUESTION)
    answer = Answer.parse(out, strict=True)
    assert_right(answer)
    assert Epoch.decode(answer.epoch or "").reached(Epoch.decode(epoch))


async def test_no_port_answers_a_request_for_another_host_name(mesh: WholeMesh) -> None:
    """Check the defense against DNS rebinding: each port gets a browser's request for the host evil.example."""
    ports = [int(part.address.rpartition(":")[2]) for part in mesh.stack.state().parts]
    ports.append(urlsplit(mesh.stack.gateway_url or "").port or 0)
    assert len(ports) == sum(WORKERS.values()) + 4
    for port in ports:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n")
        try:
            async with asyncio.timeout(WITHIN):
                first = await reader.readline()
        except ConnectionResetError:
            first = b""
        writer.close()
        assert first[:12] in {b"HTTP/1.1 421", b"HTTP/1.1 401"} or not first.startswith(b"HTTP"), (port, first)


async def test_an_ask_over_http_is_answered(http_answer: Answer, epoch: str) -> None:
    assert_right(http_answer)
    assert Epoch.decode(http_answer.epoch or "").reached(Epoch.decode(epoch))


async def test_a_repeated_ask_is_answered_from_the_cache(mesh: WholeMesh, epoch: str) -> None:
    for subject in SUBJECTS:  # only answers of the model are cached
        question = f"What does the {subject} statement do?"
        first = await mesh.ask_by_http(question, cache=None, **{"poise-min-epoch": epoch})
        if first.rung == "primary":
            break
    assert (first.rung, first.cached) == ("primary", False)
    again = await mesh.ask_by_http(question, cache=None, **{"poise-min-epoch": epoch})
    assert (again.text, again.cached) == (first.text, True)


async def ask_for_stream(
    mesh: WholeMesh, epoch: str, at_first_delta: Callable[[], object] = lambda: None
) -> tuple[list[str], list[str], Answer]:
    """Ask for a stream; return the texts between its resets, their reasons, and the answer."""
    deadline = str(round((time.time() + WITHIN) * 1_000))
    headers = {"accept": "text/event-stream", "poise-min-epoch": epoch, "poise-deadline": deadline}
    shown, reasons, name = [""], [], ""
    async with mesh.http.stream(
        "POST", "/v1/ask", json={"question": QUESTION, "cache": "no-store"}, headers=headers
    ) as response:
        async for line in response.aiter_lines():
            field, _, value = line.partition(": ")
            name = value if field == "event" else name
            body: dict[str, Any] = json.loads(value) if field == "data" else {}
            match name, field:
                case "delta", "data":
                    if shown == [""]:
                        at_first_delta()
                    shown[-1] += body["text"]
                case "reset", "data":
                    shown.append("")
                    reasons.append(body["reason"])
                case "answer", "data":
                    return shown, reasons, Answer.model_validate(body)
    raise AssertionError(f"the last event was {name}")


async def test_an_answer_is_streamed(mesh: WholeMesh, epoch: str) -> None:
    shown, reasons, answer = await ask_for_stream(mesh, epoch)
    assert_right(answer)
    assert shown[-1].strip() == answer.text
    assert reasons == ([] if answer.rung == "primary" else [answer.reason])


async def test_a_stream_survives_killed_inference_workers(mesh: WholeMesh, epoch: str) -> None:
    killed: list[PartState] = []
    shown, reasons, answer = await ask_for_stream(
        mesh, epoch, lambda: killed.extend(mesh.kill(name) for name in ("inference-1", "inference-2"))
    )
    assert_right(answer)
    assert shown[-1].strip() == answer.text
    assert len(reasons) >= (answer.rung != "primary")
    for before in killed:
        await mesh.replaced(before)


@pytest.mark.parametrize("headers", [{}, {"poise_reply_partition": "1"}], ids=["anywhere", "in one partition"])
async def test_an_ask_of_a_kafka_client_is_answered(mesh: WholeMesh, epoch: str, headers: dict[str, str]) -> None:
    sent, reply = await mesh.ask_by_kafka(QUESTION, poise_min_epoch=epoch, **headers)
    assert_right(Answer.parse(reply.value or b"", strict=True))
    assert reply.header("poise-kind") == Answer.kind
    assert reply.header("correlation_id") == sent.header("correlation_id")
    assert reply.topic == mesh.plain_client.topic
    assert reply.partition == 1 or not headers


async def test_a_run_can_be_looked_up(mesh: WholeMesh, http_answer: Answer) -> None:
    async def look() -> dict[str, Any] | None:
        response = await mesh.http.get(f"/v1/runs/{http_answer.run_id}")
        assert response.status_code == 200, response.text
        return response.json() if "record" in response.json() else None

    view = await eventually(look)
    record = RunRecord.model_validate(view["record"])
    assert view["status"] == "finished"
    assert record.answer == http_answer
    assert record.draw is not None
    assert record.draw.variant == "default"
    assert [step.step for step in record.steps] == ["retrieve", "generate"]
    assert SOURCE in {passage.source for passage in record.passages}


async def test_a_run_is_scored(mesh: WholeMesh, http_answer: Answer) -> None:
    values = await scored(mesh, http_answer.run_id)
    assert values["error"] == 0
    assert values["groundedness"] > 0
    assert values.keys() >= {"latency_ms.retrieve", "latency_ms.generate", "latency_ms.total", "raw_groundedness"}
    found = json.loads(await mesh.command("scores", "--json"))
    (variant,) = (summary for summary in found if summary["variant"] != "none")  # "none": answers from the cache
    assert variant["variant"] == "default"
    assert variant["runs"] == sum(variant["rungs"].values()) >= 1
    assert variant["values"]["groundedness"]["count"] >= 1


async def scored(mesh: WholeMesh, run: str) -> dict[str, float]:
    """Wait for the scores of a run; return them by name."""

    async def look() -> dict[str, float] | None:
        records = await mesh.poise.mesh.logs.read_topic(SCORES.name)
        scores = [json.loads(record.value or b"") for record in records]
        return next((score["values"] for score in scores if score["run_id"] == run), None)

    return await eventually(look)


async def test_the_trace_of_a_run_has_every_tier(mesh: WholeMesh, http_answer: Answer) -> None:
    async def look() -> dict[str, Any] | None:
        traced: dict[str, Any] = json.loads(await mesh.command("trace", "--json", http_answer.run_id))
        return (
            traced if {span["service"] for span in traced["spans"]} == {f"poise-{tier}" for tier in WORKERS} else None
        )

    traced = await eventually(look)
    assert len({span["trace_id"] for span in traced["spans"]}) == 1
    assert traced["question"] == QUESTION
    assert traced["tiers_ms"].keys() >= {"gateway", "orchestration", "retrieval", "inference"}
    shown = await mesh.command("trace", http_answer.run_id)
    assert all(tier in shown for tier in WORKERS)


@pytest.mark.usefixtures("epoch")
async def test_answers_use_ingested_documents_and_no_deleted_ones(mesh: WholeMesh) -> None:
    await assert_documents_are_added_and_deleted(mesh)


async def assert_documents_are_added_and_deleted(mesh: WholeMesh) -> None:
    """Assert that a document is found from the epoch of its ingestion until the epoch of its deletion."""
    id_, question = f"lamp/{uuid4().hex}", "Who lit the lamp of Harrow Point?"
    document = {"id": id_, "text": "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."}
    accepted = await mesh.http.post("/v1/documents", json=document)
    assert accepted.status_code == 202, accepted.text

    answer = await mesh.ask_by_http(question, **{"poise-min-epoch": accepted.json()["epoch"]})
    assert "Ada Quill" in answer.text
    assert id_ in {citation.source for citation in answer.citations}

    deleted = await mesh.http.delete(f"/v1/documents/{id_}")
    assert deleted.status_code == 202, deleted.text
    answer = await mesh.ask_by_http(question, **{"poise-min-epoch": deleted.json()["epoch"]})
    assert "Ada Quill" not in answer.text
    assert id_ not in {citation.source for citation in answer.citations}


@pytest.mark.parametrize("name", ["orchestration-1", "retrieval-1", "inference-1", "evaluation-1"])
async def test_after_a_worker_is_killed_the_next_ask_is_answered(mesh: WholeMesh, epoch: str, name: str) -> None:
    before = mesh.kill(name)
    _, reply = await mesh.ask_by_kafka(QUESTION, poise_min_epoch=epoch)
    answer = Answer.parse(reply.value or b"")
    assert_right(answer)
    await mesh.replaced(before)
    assert await scored(mesh, answer.run_id)


async def test_after_the_gateway_is_killed_the_next_one_answers(mesh: WholeMesh, epoch: str) -> None:
    await mesh.replaced(mesh.kill("gateway-1"))
    assert_right(await mesh.ask_by_http(QUESTION, **{"poise-min-epoch": epoch}))


async def test_after_all_kills_documents_are_added_and_deleted(mesh: WholeMesh) -> None:
    await assert_documents_are_added_and_deleted(mesh)
