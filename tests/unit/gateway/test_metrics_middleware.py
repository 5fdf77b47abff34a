"""Requests are measured by route, never by the raw path."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from poise.telemetry import metrics, semconv

Measured = list[tuple[str, str | None, int]]


@pytest.fixture
def measured() -> Iterator[Measured]:
    """Yield the method, route and status of each measurement."""
    found: Measured = []

    def note(value: float, attributes: Mapping[str, Any] | None) -> None:
        assert value > 0
        assert attributes is not None
        found.append(
            (attributes[semconv.HTTP_METHOD], attributes.get(semconv.HTTP_ROUTE), attributes[semconv.HTTP_STATUS])
        )

    recorder = metrics.Recorder([], {semconv.HTTP_DURATION: note})
    metrics.activate(recorder)
    yield found
    metrics.deactivate(recorder)


async def test_each_request_is_measured(client: httpx2.AsyncClient, mesh: Any, measured: Measured) -> None:
    await client.post("/v1/ask", json={"question": "Why?"})
    await client.post("/v1/ask", json={})
    await client.delete("/v1/documents/a/b")
    await client.get("/nowhere")
    await client.request("BREW", "/v1/ask")
    mesh.error = ValueError("a bug")
    await client.post("/v1/ask", json={"question": "Why?"})
    assert measured == [
        ("POST", "/v1/ask", 200),
        ("POST", "/v1/ask", 400),
        ("DELETE", "/v1/documents/{id:path}", 202),
        ("GET", None, 404),
        ("_OTHER", "/v1/ask", 405),
        ("POST", "/v1/ask", 500),
    ]
