"""A web page cannot use the gateway: neither by its own host name (DNS rebinding) nor from another origin."""

from collections.abc import Callable

import httpx2
import pytest

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]

EVIL = "evil.example:8080"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/v1/ask"),
        ("DELETE", "/v1/documents/a"),
        ("GET", "/nowhere"),
    ],
)
async def test_an_unknown_host_is_rejected(
    client: httpx2.AsyncClient, problem: Problem, method: str, path: str
) -> None:
    response = await client.request(method, path, headers={"host": EVIL})
    assert problem(response) == (421, "urn:poise:misdirected", [])


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/documents/a", "/v1/admin/dead-letters/purge", "/healthz"])
async def test_a_preflight_of_another_origin_is_denied(client: httpx2.AsyncClient, problem: Problem, path: str) -> None:
    headers = {
        "origin": "http://evil.example",
        "access-control-request-method": "DELETE",
        "access-control-request-headers": "content-type",
    }
    response = await client.options(path, headers=headers)
    assert problem(response)[:2] == (405, "urn:poise:method-not-allowed")
    assert not [name for name in response.headers if name.startswith("access-control-")]
    got = await client.get("/healthz", headers={"origin": "http://evil.example"})
    assert not [name for name in got.headers if name.startswith("access-control-")]
