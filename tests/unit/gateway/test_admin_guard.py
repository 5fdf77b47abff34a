"""The admin interface: off without a token, and restricted to requests with the token."""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from poise.worker.runtime import WorkerRuntime
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.settings import GatewaySettings

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]

TOKEN = "a-token-that-is-long-ënough, à"  # noqa: S105 - used in this test only; it ends in the bytes 0xC3 0xA0
DEAD_LETTERS = "/v1/admin/dead-letters"
REQUESTS = [
    ("GET", DEAD_LETTERS),
    ("GET", f"{DEAD_LETTERS}/retrieval/0/1"),
    ("POST", f"{DEAD_LETTERS}/redrive"),
    ("POST", f"{DEAD_LETTERS}/purge"),
]


@pytest.fixture
async def guarded(mesh: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of a gateway with a token, whose mesh has no dead letters and fails when they are read."""
    gateway = Gateway(cast(WorkerRuntime, mesh), GatewaySettings(admin_token=SecretStr(TOKEN)))
    transport = httpx2.ASGITransport(gateway.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {token}".encode()}


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_the_admin_interface_is_off_without_a_token(
    client: httpx2.AsyncClient, problem: Problem, method: str, path: str
) -> None:
    response = await client.request(method, path, headers=bearer(TOKEN))
    assert problem(response) == (404, "urn:poise:not-found", [])


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": TOKEN.encode()},
        {b"authorization": b"Basic " + TOKEN.encode()},
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        {b"authorization": b"Bearer \xff\xfe"},
    ],
)
async def test_a_missing_or_wrong_token_is_401(
    guarded: httpx2.AsyncClient, problem: Problem, method: str, path: str, headers: dict[bytes, bytes]
) -> None:
    response = await guarded.request(method, path, headers=headers)
    assert problem(response) == (401, "urn:poise:unauthorized", [])
    assert response.headers["www-authenticate"] == 'Bearer realm="poise"'


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("redrive", {}, "ids"),
        ("purge", {"dry_run": True}, "ids"),
        ("redrive", {"al": True}, "al"),
        ("purge", {"all": True, "force": True}, "force"),
        ("redrive", {"older_than": "soon"}, "older_than"),
        ("redrive", {"older_than": "2h", "newer_than": "1h"}, "older_than"),
        ("redrive", {"ids": ["x"]}, "ids"),
        ("redrive", {"all": True, "force": True}, "force"),
        ("purge", {"all": True, "limit": 0}, "limit"),
        ("purge", {"all": True, "limit": 10_001}, "limit"),
    ],
)
async def test_an_invalid_field_is_named(
    guarded: httpx2.AsyncClient, problem: Problem, path: str, body: dict[str, Any], field: str
) -> None:
    response = await guarded.post(f"{DEAD_LETTERS}/{path}", json=body, headers=bearer(TOKEN))
    assert problem(response) == (400, "urn:poise:invalid", [field])


@pytest.mark.parametrize("query", ["limit=many", "older_than=1", "tier=a&limit=0", "lmit=1"])
async def test_an_invalid_query_parameter_is_named(guarded: httpx2.AsyncClient, problem: Problem, query: str) -> None:
    status, kind, [field] = problem(await guarded.get(f"{DEAD_LETTERS}?{query}", headers=bearer(TOKEN)))
    assert (status, kind) == (400, "urn:poise:invalid")
    assert field in query


async def test_a_body_without_json_content_type_is_rejected(guarded: httpx2.AsyncClient, problem: Problem) -> None:
    response = await guarded.post(f"{DEAD_LETTERS}/purge", content=b'{"all": true}', headers=bearer(TOKEN))
    assert problem(response)[:2] == (415, "urn:poise:unsupported-media-type")


async def test_a_request_with_the_token_is_handled(guarded: httpx2.AsyncClient, problem: Problem) -> None:
    for headers in (bearer(TOKEN), {b"authorization": f"bearer  {TOKEN}\t".encode()}):
        response = await guarded.post(f"{DEAD_LETTERS}/purge", json={}, headers=headers)
        assert problem(response) == (400, "urn:poise:invalid", ["ids"])


def test_a_short_token_is_rejected_and_no_token_is_shown() -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(admin_token=SecretStr("short"))
    assert TOKEN not in repr(GatewaySettings(admin_token=SecretStr(TOKEN)))
