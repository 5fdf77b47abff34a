"""GET and DELETE /v1/runs/{id}."""

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from integration_kit import until

from poise.contracts import Answer, RunRecord
from poise.contracts.run_id import derive_run_id, new_run_id
from poise.errors import DeadlineExceededError, PoiseError, RunCancelledError, SetupError, TerminalError
from poise.kafka.record import Record
from poise_services.gateway import runs
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.settings import GatewaySettings

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]
NOT_FOUND: tuple[int, str, list[str]] = (404, "urn:poise:not-found", [])


def run_log_record(run: str, *, tenant: str = "default", body: bytes | None = None) -> Record:
    record = RunRecord(
        run_id=run,
        workflow="answer",
        tenant=tenant,
        question="Why?",
        started=time.time(),
        finished=time.time(),
        answer=Answer(run_id=run, text="Because.", rung="primary"),
    )
    return Record("poise.records", 0, 0, time.time(), run.encode(), record.encode() if body is None else body)


def a_run(ago: float = 0.0) -> str:
    return new_run_id(time.time() - ago, Random())


async def test_a_run_is_cancelled(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = a_run()
    response = await client.delete(f"/v1/runs/{run}")
    assert (response.status_code, response.json()) == (202, {"run_id": run})
    assert mesh.cancelled == [run]


async def test_an_invalid_run_id_is_not_cancelled(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    for run in ("x", str(uuid4()), "%00", a_run().upper()):
        assert problem(await client.delete(f"/v1/runs/{run}")) == NOT_FOUND
    assert mesh.cancelled == []


async def test_a_finished_run_has_its_record(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = a_run()
    mesh.records[run] = [run_log_record(run)]
    response = await client.get(f"/v1/runs/{run}")
    assert response.status_code == 200
    body = response.json()
    assert (body["run_id"], body["status"], body["record"]["answer"]["text"]) == (run, "finished", "Because.")
    assert (body["outcome"], "fault" in body) == ("answered", False)


async def test_a_run_started_over_kafka_is_found(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = derive_run_id("poise.ask.interactive", 3, 42, 1_800_000_000.0)
    mesh.records[run] = [run_log_record(run)]
    assert (await client.get(f"/v1/runs/{run}")).status_code == 200


async def test_a_run_of_this_gateway_is_running_and_then_finished(
    client: httpx2.AsyncClient, mesh: Any, held: asyncio.Event
) -> None:
    asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
    while not mesh.called:  # noqa: ASYNC110 - each turn of the loop takes it further
        await asyncio.sleep(0)
    run = mesh.called[0]["run"]
    assert (await client.get(f"/v1/runs/{run}")).json() == {"run_id": run, "status": "running"}
    held.set()
    await asking
    shown = (await client.get(f"/v1/runs/{run}")).json()
    assert shown == {"run_id": run, "status": "finished", "outcome": "answered"}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DeadlineExceededError("no reply before the deadline"), "deadline-exceeded"),
        (RunCancelledError("somebody cancelled it"), "cancelled"),
        (TerminalError("there is nothing to be done"), "failed"),
    ],
)
async def test_a_run_without_an_answer_has_its_fault(
    client: httpx2.AsyncClient, mesh: Any, error: PoiseError, outcome: str
) -> None:
    mesh.error = error
    run = (await client.post("/v1/ask", json={"question": "Why?"})).headers["poise-run"]
    mesh.error = None
    shown = (await client.get(f"/v1/runs/{run}")).json()
    assert (shown["status"], shown["outcome"], shown["fault"]["detail"]) == ("finished", outcome, str(error))
    assert "record" not in shown


async def test_a_run_whose_client_disconnected_is_cancelled(
    client: httpx2.AsyncClient, mesh: Any, gateway: Gateway, held: asyncio.Event
) -> None:
    asking = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
    await until(lambda: bool(mesh.called))
    asking.cancel()
    await until(lambda: not gateway.asks.pending)
    assert not held.is_set()
    assert (await client.get(f"/v1/runs/{mesh.called[0]['run']}")).json()["outcome"] == "cancelled"


async def test_another_gateway_reads_the_fault_from_the_record(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = a_run()
    fault = DeadlineExceededError("no reply before the deadline").fault()
    record = RunRecord(
        run_id=run, workflow="answer", tenant="default", question="Why?", started=1.0, finished=2.0, fault=fault
    )
    mesh.records[run] = [run_log_record(run, body=record.encode())]
    shown = (await client.get(f"/v1/runs/{run}")).json()
    assert (shown["status"], shown["outcome"]) == ("finished", "deadline-exceeded")
    assert shown["fault"] == shown["record"]["fault"]


@pytest.mark.parametrize(
    "run",
    [
        "nonsense",
        str(uuid4()),
        a_run().upper(),
        UUID(a_run()).hex,
        a_run(ago=9 * 24 * 3_600),
        a_run(ago=-7_200),
    ],
    ids=["nonsense", "another kind", "upper case", "without dashes", "too old", "of the future"],
)
async def test_an_id_that_cannot_have_a_record_is_not_looked_up(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem, run: str
) -> None:
    mesh.error = SetupError("was asked")
    assert problem(await client.get(f"/v1/runs/{run}")) == NOT_FOUND


async def test_a_run_without_a_record_is_404(client: httpx2.AsyncClient, problem: Problem) -> None:
    assert problem(await client.get(f"/v1/runs/{a_run()}")) == NOT_FOUND


async def test_the_run_of_another_tenant_is_404(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    run = a_run()
    mesh.records[run] = [run_log_record(run, tenant="another")]
    assert problem(await client.get(f"/v1/runs/{run}")) == NOT_FOUND


async def test_an_unreadable_record_is_a_problem(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    run = a_run()
    mesh.records[run] = [run_log_record(run, body=b"{}")]
    assert problem(await client.get(f"/v1/runs/{run}")) == (500, "urn:poise:failed", [])


async def test_without_a_broker_the_records_are_unavailable(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem
) -> None:
    mesh.error = SetupError("no broker answers")
    assert problem(await client.get(f"/v1/runs/{a_run()}")) == (503, "urn:poise:unavailable", [])


BY_KAFKA = derive_run_id("poise.ask.interactive", 3, 42, 1_800_000_000.0)


async def test_a_run_is_first_looked_up_near_its_start_time(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = a_run(ago=3_600)
    await client.get(f"/v1/runs/{run}")
    (_, near), (_, far) = mesh.looked
    assert [(window.end or 0.0) - window.start for window in (*near, *far)] == pytest.approx([602.0, 24_600.0])


async def test_searches_of_whole_partitions_block_no_other_lookup_and_time_out(
    client: httpx2.AsyncClient,
    mesh: Any,
    problem: Problem,
    settings: GatewaySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searching, at_once = 0, list[int]()

    async def slowly(run: str) -> None:
        nonlocal searching
        if run == BY_KAFKA:
            searching += 1
            at_once.append(searching)
            try:
                await asyncio.Event().wait()
            finally:
                searching -= 1

    monkeypatch.setattr(runs, "LOOKUP_TIMEOUT", 0.3)
    mesh.looking = slowly
    run = a_run()
    mesh.records[run] = [run_log_record(run)]
    many = [asyncio.create_task(client.get(f"/v1/runs/{BY_KAFKA}")) for _ in range(8)]
    while searching < settings.concurrent_searches:  # noqa: ASYNC110 - each turn of the loop takes it further
        await asyncio.sleep(0)
    assert (await client.get(f"/v1/runs/{run}")).status_code == 200
    responses = await asyncio.gather(*many)
    assert max(at_once) == settings.concurrent_searches, "the others waited for their turn"
    assert [problem(response) for response in responses] == [(503, "urn:poise:temporary", [])] * len(many)
    assert {response.headers["retry-after"] for response in responses} == {"10"}
