"""Rate limits for cheap writes, per client and in total: 429 with `Retry-After`."""

import time
from collections.abc import Callable
from random import Random
from typing import Any, cast

import httpx2
import pytest

from poise.contracts.run_id import derive_run_id, new_run_id
from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.settings import GatewaySettings, HttpLimits

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]

LIMITS = HttpLimits(writes_per_second=3, writes_per_second_per_peer=2, unknown_cancels_per_hour=30)


@pytest.fixture
def limited(mesh: Any) -> Callable[[str], httpx2.AsyncClient]:
    """Return a function that makes a client with a given address; all share a gateway with low write limits."""
    gateway = Gateway(cast(WorkerRuntime, mesh), GatewaySettings(limits=LIMITS))

    def at(address: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(gateway.app, client=(address, 1))
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost")

    return at


def a_run(number: int = 0, ago: float = 1.0) -> str:
    return new_run_id(time.time() - ago, Random(number))


async def statuses(client: httpx2.AsyncClient, count: int, *request: Any, **named: Any) -> list[int]:
    return [(await client.request(*request, **named)).status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/documents/nobody-has-this", None),
        ("POST", "/v1/feedback", {"run_id": a_run(), "thumb": "up"}),
    ],
)
async def test_one_client_is_limited_to_its_share(
    limited: Callable[[str], httpx2.AsyncClient], problem: Problem, method: str, path: str, body: object
) -> None:
    async with limited("203.0.113.1") as client, limited("203.0.113.2") as other, limited("2001:db8::1") as third:
        assert await statuses(client, 20, method, path, json=body) == [202] * 20
        refused = await client.request(method, path, json=body)
        assert problem(refused) == (429, "urn:poise:rate-limited", [])
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["retryable"]
        assert await statuses(other, 12, method, path, json=body) == [202] * 10 + [429] * 2, "all together have 30"
        assert (await third.get("/v1/runs/none")).status_code == 404, "what only reads is not counted"
        assert (await third.post("/v1/ask", json={"question": "Why?"})).status_code == 200


async def test_cancels_count_as_writes(mesh: Any, problem: Problem) -> None:
    limits = LIMITS.model_copy(update={"unknown_cancels_per_hour": 100_000})
    gateway = Gateway(cast(WorkerRuntime, mesh), GatewaySettings(limits=limits))
    transport = httpx2.ASGITransport(gateway.app, client=("203.0.113.1", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert await statuses(client, 20, "DELETE", f"/v1/runs/{a_run()}") == [202] * 20
        refused = await client.delete(f"/v1/runs/{a_run()}")
    assert problem(refused) == (429, "urn:poise:rate-limited", [])
    assert "deletions, cancels and feedback" in refused.json()["detail"]


async def test_cancels_of_unknown_runs_have_a_lower_limit(
    limited: Callable[[str], httpx2.AsyncClient], mesh: Any
) -> None:
    async with limited("203.0.113.1") as client:
        assert await statuses(client, 3, "DELETE", f"/v1/runs/{a_run()}") == [202] * 3
        refused = await client.delete(f"/v1/runs/{a_run(1)}")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 1_000, "3 an hour"
    assert len(mesh.cancelled) == 3


@pytest.mark.parametrize("ago", [-3_600.0, 7 * 3_600.0])
async def test_a_run_that_cannot_be_running_is_not_cancelled(client: httpx2.AsyncClient, mesh: Any, ago: float) -> None:
    assert (await client.delete(f"/v1/runs/{a_run(ago=ago)}")).status_code == 404
    assert mesh.cancelled == []
    by_place = derive_run_id("poise.ask.batch", 0, 7, 1.0)
    assert (await client.delete(f"/v1/runs/{by_place}")).status_code == 202, "its id tells no time"
