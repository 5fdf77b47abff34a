"""Any input gets a documented response and never an unhandled error."""

import json
from typing import Any, cast
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.settings import GatewaySettings

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NAMES = (
    st.sampled_from(["question", "conversation", "id", "text", "source", "format", "run_id", "thumb", "rating"])
    | st.text()
)
ANY_JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["poise-deadline", "poise-min-epoch", "traceparent", "tracestate", "poise-run", "content-length-x"]
    ),
    st.binary(max_size=40).filter(lambda value: not set(value) & {0, 10, 13}),
)
PATHS = st.sampled_from(["/v1/ask", "/v1/documents", "/v1/feedback"])
PROMISED = {200, 202, 400, 413, 504}


@pytest.fixture
def transport(mesh: Any) -> httpx2.ASGITransport:
    """Return a transport that raises the gateway's unhandled errors."""
    return httpx2.ASGITransport(Gateway(cast(WorkerRuntime, mesh), GatewaySettings()).app)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=ANY_JSON, headers=HEADERS, path=PATHS)
async def test_any_json(transport: httpx2.ASGITransport, body: Any, headers: dict[str, bytes], path: str) -> None:
    content = json.dumps(body).encode()  # also encodes what JSON does not allow, such as NaN and lone surrogates
    raw = [(name.encode(), value) for name, value in headers.items()] + [(b"content-type", b"application/json")]
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post(path, content=content, headers=raw)
    assert response.status_code in PROMISED
    assert response.json()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=200), path=PATHS)
async def test_any_bytes(transport: httpx2.ASGITransport, body: bytes, path: str) -> None:
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code in PROMISED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda name: set(name) != {"."})
)
async def test_any_id(transport: httpx2.ASGITransport, name: str) -> None:
    quoted = quote(name, safe="")
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.delete(f"/v1/documents/{quoted}")).status_code in {202, 400, 404}
        assert (await client.get(f"/v1/runs/{quoted}")).status_code == 404
