"""POST /v1/ask: the call's options, and the response."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx2
import pytest

from poise.contracts import Ask, Fault
from poise.errors import DeadlineExceededError, FaultError, PoiseError, RetryableError, TerminalError, UnavailableError
from poise_services.gateway.handlers import Gateway

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]
EPOCH = "e1.topic.0~41~1764000000000"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_an_ask_starts_a_run(client: httpx2.AsyncClient, mesh: Any) -> None:
    response = await client.post("/v1/ask", json={"question": "Why?"})
    run = response.headers["poise-run"]
    assert response.status_code == 200
    assert UUID(run).version == 7
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "run_id": run, "text": "Because.", "citations": [], "rung": "primary", "variant": "brief",
        "degraded": [], "cached": False, "timings": {},
    }  # fmt: skip
    called = mesh.called[0]
    assert 29 < called.pop("deadline") - time.time() <= 30
    assert called == {"request": Ask(question="Why?"), "run": run, "step": "ask", "key": run, "lane": "interactive"}


async def test_a_conversation_is_the_record_key(client: httpx2.AsyncClient, mesh: Any) -> None:
    await client.post("/v1/ask", json={"question": "Why?", "conversation": "c-1"})
    assert mesh.called[0]["key"] == "c-1"


@pytest.mark.parametrize(
    ("header", "caching"),
    [
        ("no-cache", "no-cache"),
        ("No-Store", "no-store"),
        ("max-age=0, no-cache", "no-cache"),
        ("no-cache, no-store", "no-store"),
        ('no-cache="x"', "no-cache"),
        ("max-age=3, no-transform", None),
        ("\xe9", None),
    ],
)
async def test_cache_control_sets_the_caching(
    client: httpx2.AsyncClient, mesh: Any, header: str, caching: str | None
) -> None:
    await client.post("/v1/ask", json={"question": "Why?"}, headers=[(b"cache-control", header.encode("latin-1"))])
    assert mesh.called[0]["request"] == Ask(question="Why?", cache=caching)


async def test_the_bodys_caching_takes_precedence(client: httpx2.AsyncClient, mesh: Any) -> None:
    body = {"question": "Why?", "cache": "no-cache"}
    await client.post("/v1/ask", json=body, headers={"cache-control": "no-store"})
    assert mesh.called[0]["request"] == Ask(question="Why?", cache="no-cache")


async def test_headers_set_deadline_epoch_and_trace(client: httpx2.AsyncClient, mesh: Any) -> None:
    wanted = round(time.time() + 7, 3)
    headers = {"poise-deadline": str(round(wanted * 1_000)), "poise-min-epoch": EPOCH, "traceparent": PARENT}
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=headers)
    assert mesh.called[0]["deadline"] == pytest.approx(wanted)
    assert mesh.called[0]["min_epoch"] == EPOCH
    assert response.headers["traceparent"].split("-")[1] == PARENT.split("-")[1]


@pytest.mark.parametrize(
    ("body", "header", "language"),
    [({}, "en;q=0.5, de-AT", "de-AT"), ({"language": "fr"}, "de", "fr"), ({}, "*", None)],
)
async def test_the_language_is_the_bodys_or_accept_language(
    client: httpx2.AsyncClient, mesh: Any, body: dict[str, str], header: str, language: str | None
) -> None:
    await client.post("/v1/ask", json={"question": "Why?", **body}, headers={"accept-language": header})
    assert mesh.called[0]["request"].language == language


async def test_a_late_deadline_is_clamped_by_the_call(client: httpx2.AsyncClient, mesh: Any) -> None:
    headers = {"poise-deadline": str(round((time.time() + 3_600) * 1_000))}
    await client.post("/v1/ask", json={"question": "Why?"}, headers=headers)
    assert 3_599 < mesh.called[0]["deadline"] - time.time() <= 3_600


async def test_identity_headers_of_a_client_are_ignored(client: httpx2.AsyncClient, mesh: Any) -> None:
    headers = {"poise-run": "mine", "poise-tenant": "theirs", "poise-step": "x", "poise-attempt": "many"}
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers=headers)
    assert response.headers["poise-run"] != "mine"
    assert "tenant" not in mesh.called[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeadlineExceededError("no reply in time"), (504, "urn:poise:deadline-exceeded", [])),
        (UnavailableError("the broker did not take it"), (503, "urn:poise:unavailable", [])),
        (TerminalError("the reply cannot be read"), (500, "urn:poise:failed", [])),
        (
            FaultError(Fault(type="urn:poise:odd", title="Odd", status=418, detail="odd", retryable=False)),
            (418, "urn:poise:odd", []),
        ),
        (
            FaultError(Fault(type="urn:poise:odd", title="Odd", status=200, detail="odd", retryable=False)),
            (500, "urn:poise:odd", []),
        ),
    ],
)
async def test_a_fault_becomes_a_problem_response(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem, error: PoiseError, expected: tuple[int, str, list[str]]
) -> None:
    mesh.error = error
    response = await client.post("/v1/ask", json={"question": "Why?"})
    assert problem(response) == expected
    assert response.headers["poise-run"] == mesh.called[0]["run"]


async def test_retry_after_is_passed_on(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    mesh.error = RetryableError("not now", retry_after=1.2)
    response = await client.post("/v1/ask", json={"question": "Why?"})
    assert problem(response) == (503, "urn:poise:temporary", [])
    assert response.headers["retry-after"] == "2"


async def test_an_unexpected_error_is_a_problem_without_details(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem
) -> None:
    mesh.error = ValueError("secret")
    response = await client.post("/v1/ask", json={"question": "Why?"})
    assert problem(response) == (500, "urn:poise:internal", [])
    assert "secret" not in response.text


async def test_asks_beyond_the_limit_are_rejected(
    client: httpx2.AsyncClient, gateway: Gateway, problem: Problem, held: asyncio.Event
) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(client.post("/v1/ask", json={"question": "Why?"})) for _ in range(2)]
        while gateway.asks.pending < 2:  # noqa: ASYNC110 - each turn of the loop takes them further
            await asyncio.sleep(0)
        refused = await client.post("/v1/ask", json={"question": "Why?"})
        held.set()
    assert problem(refused) == (503, "urn:poise:temporary", [])
    assert refused.headers["retry-after"] == "1"
    assert [task.result().status_code for task in waiting] == [200, 200]
    assert gateway.asks.pending == 0


async def test_pending_asks_get_503_at_shutdown(
    client: httpx2.AsyncClient, gateway: Gateway, mesh: Any, problem: Problem, held: asyncio.Event
) -> None:
    waiting = asyncio.create_task(client.post("/v1/ask", json={"question": "Why?"}))
    while not mesh.called:  # noqa: ASYNC110 - each turn of the loop takes it further
        await asyncio.sleep(0)
    gateway.asks.abort_pending()
    assert problem(await waiting) == (503, "urn:poise:unavailable", [])
    assert not held.is_set()
    assert (mesh.given_up, gateway.asks.pending) == (1, 0)


async def test_a_disconnect_abandons_the_ask(gateway: Gateway, mesh: Any, held: asyncio.Event) -> None:
    body = {"type": "http.request", "body": b'{"question": "Why?"}', "more_body": False}
    gone = asyncio.Event()
    received = [body]

    async def receive() -> Any:
        if received:
            return received.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        """Drop the response."""

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/ask",
        "raw_path": b"/v1/ask",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    serving = asyncio.ensure_future(gateway.app(scope, receive, send))
    while not mesh.called:  # noqa: ASYNC110 - each turn of the loop takes it further
        await asyncio.sleep(0)
    assert gateway.asks.pending == 1
    gone.set()
    await serving
    assert not held.is_set()
    assert (mesh.given_up, gateway.asks.pending) == (1, 0)
