"""Health, and the OpenAPI page: it shows every endpoint, and its examples are valid."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from poise.contracts import Answer, Ask, Fault, Feedback
from poise.dead_letters.json_view import DeadLetterDetail
from poise_services.gateway.dead_letters import (
    ListResponse,
    PurgeRequest,
    PurgeResponse,
    RedriveRequest,
    RedriveResponse,
)
from poise_services.gateway.documents import DocumentsAccepted, NewDocument
from poise_services.gateway.feedback import FeedbackAccepted
from poise_services.gateway.runs import RunView

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]


async def test_liveness(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_readiness_when_every_condition_is_met(client: httpx2.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (200, True)


async def test_an_unmet_condition_is_named(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    mesh.checks["broker"] = False
    assert problem(await client.get("/readyz")) == (503, "urn:poise:unavailable", ["broker"])


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


async def test_the_page_shows_every_endpoint(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert "/openapi.json" in page.text
    document = (await client.get("/openapi.json")).json()
    assert {(path, method) for path, item in document["paths"].items() for method in item} == {
        ("/v1/ask", "post"),
        ("/v1/documents", "post"),
        ("/v1/documents/{id}", "delete"),
        ("/v1/feedback", "post"),
        ("/v1/runs/{id}", "get"),
        ("/v1/runs/{id}", "delete"),
        ("/v1/admin/dead-letters", "get"),
        ("/v1/admin/dead-letters/{tier}/{partition}/{offset}", "get"),
        ("/v1/admin/dead-letters/redrive", "post"),
        ("/v1/admin/dead-letters/purge", "post"),
        *((path, method) for path in ("/healthz", "/readyz") for method in ("get", "head")),
    }
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    for item in document["paths"].values():
        for method, operation in item.items():
            assert {"421", "default"} <= operation["responses"].keys()
            for status, answer in operation["responses"].items():
                kind = "application/problem+json" if status >= "400" else "application/json"
                assert set(answer.get("content", ())) - {"text/event-stream"} == (set() if method == "head" else {kind})


async def test_the_page_loads_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+", page.text)
    loaded = set(re.findall(r"(?:src|href)=.([^'\"> ]+)", page.text))
    assert loaded == {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon-32x32.png"}
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert set(re.findall(r"[a-z]+:|\*", policy)) == {"data:"}
    for path in loaded:
        file = await client.get(path)
        assert file.status_code == 200
        assert len(file.content) > 500
        assert file.headers["content-type"].partition(";")[0] in {"text/javascript", "text/css", "image/png"}
    for path in ("/docs/main.py", "/docs/..%2f__init__.py", "/docs/../__init__.py"):
        assert (await client.get(path)).status_code == 404


async def test_the_examples_are_valid(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]

    def example(path: str, method: str, *where: str) -> Any:
        found = paths[path][method]
        for key in where:
            found = found[key]
        return next(iter(found["content"].values()))["example"]

    Ask.model_validate(example("/v1/ask", "post", "requestBody"), extra="forbid")
    Answer.model_validate(example("/v1/ask", "post", "responses", "200"), extra="forbid")
    Fault.model_validate(example("/v1/ask", "post", "responses", "400"), extra="forbid")
    NewDocument.model_validate(example("/v1/documents", "post", "requestBody"), extra="forbid")
    DocumentsAccepted.model_validate(example("/v1/documents", "post", "responses", "202"), extra="forbid")
    Feedback.model_validate(example("/v1/feedback", "post", "requestBody"), extra="forbid")
    FeedbackAccepted.model_validate(example("/v1/feedback", "post", "responses", "202"), extra="forbid")
    RunView.model_validate(example("/v1/runs/{id}", "get", "responses", "200"), extra="forbid")
    admin = "/v1/admin/dead-letters"
    one = f"{admin}/{{tier}}/{{partition}}/{{offset}}"
    ListResponse.model_validate(example(admin, "get", "responses", "200"), extra="forbid")
    DeadLetterDetail.model_validate(example(one, "get", "responses", "200"), extra="forbid")
    RedriveRequest.model_validate(example(f"{admin}/redrive", "post", "requestBody"), extra="forbid")
    RedriveResponse.model_validate(example(f"{admin}/redrive", "post", "responses", "200"), extra="forbid")
    PurgeRequest.model_validate(example(f"{admin}/purge", "post", "requestBody"), extra="forbid")
    PurgeResponse.model_validate(example(f"{admin}/purge", "post", "responses", "200"), extra="forbid")
    wrong = await client.post("/v1/ask", json={"quesion": "Why?"})
    assert wrong.json() == example("/v1/ask", "post", "responses", "400")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_head_responds_like_get(client: httpx2.AsyncClient, mesh: Any, path: str) -> None:
    for broker in (True, False):
        mesh.checks["broker"] = broker
        got, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.headers) == (got.status_code, got.headers)
