"""Invalid input gets a problem response that names the field."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]
INVALID = "urn:poise:invalid"
NOT_FOUND = (404, "urn:poise:not-found")
NOT_ALLOWED = (405, "urn:poise:method-not-allowed")
JSON = {"content-type": "application/json"}


def ms(seconds: float) -> str:
    return str(round((time.time() + seconds) * 1_000))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"question": "Why?", "colour": 1}', ["colour"]),
        ('{"question": 7}', ["question"]),
        ('{"question": ""}', ["question"]),
        ('{"question": " \\n\\t "}', ["question"]),
        ("{}", ["question"]),
        ('{"question": "Why?", "conversation": ""}', ["conversation"]),
        ('{"question": "Why?", "conversation": 7}', ["conversation"]),
        (json.dumps({"question": "x" * 8_001}), ["question"]),
        ('{"question": "\\ud800"}', ["body"]),
        ("", ["body"]),
        ("null", ["body"]),
        ("[]", ["body"]),
        ('"Why?"', ["body"]),
        ('{"question": "Why?"', ["body"]),
        ("[" * 50_000, ["body"]),
        ('{"question":' * 5_000, ["body"]),
        (b'{"question": "\xff"}', ["body"]),
        ('\ufeff\ufeff{"question": "Why?"}', ["body"]),
    ],
)
async def test_an_invalid_ask(
    client: httpx2.AsyncClient, problem: Problem, body: str | bytes, fields: list[str]
) -> None:
    assert problem(await client.post("/v1/ask", content=body, headers=JSON)) == (400, INVALID, fields)


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ("{}", 400, ["id", "text"]),
        ('{"id": "a", "text": "b", "colour": 1}', 400, ["colour"]),
        ('{"id": "a", "text": " "}', 400, ["text"]),
        ('{"id": "", "text": "b"}', 400, ["id"]),
        ('{"id": "a\\u0000", "text": "b"}', 400, ["id"]),
        (json.dumps({"id": "a" * 501, "text": "b"}), 400, ["id"]),
        ('{"id": "a", "text": "b", "format": "pdf"}', 400, ["format"]),
        ('{"id": "a", "text": "b", "source": ""}', 400, ["source"]),
        ("[]", 400, ["body"]),
        (' [{"id": "a", "text": "b"}, 7]', 400, ["1"]),
        ('[{"id": "a", "text": "b"}, {"id": "c", "text": ""}]', 400, ["1.text"]),
        ('[{"id": "a", "text": "b"}, {"id": "a", "text": "c"}]', 400, ["1.id"]),
        (json.dumps([{"id": str(n), "text": "b"} for n in range(1_001)]), 400, ["body"]),
        (json.dumps({"id": "a", "text": "x" * 800_001}), 400, ["text"]),
        (json.dumps({"id": "a", "text": "語" * 400_000}, ensure_ascii=False), 413, ["text"]),
        (json.dumps([{"id": "a", "text": '"' * 600_000}]), 413, ["0.text"]),
        (json.dumps({"id": "a", "text": "x" * 2_500_000}), 413, ["body"]),
    ],
)
async def test_invalid_documents(
    client: httpx2.AsyncClient, problem: Problem, body: str, status: int, fields: list[str]
) -> None:
    kind = INVALID if status == 400 else "urn:poise:too-large"
    assert problem(await client.post("/v1/documents", content=body, headers=JSON)) == (status, kind, fields)


async def test_a_body_with_many_invalid_fields_names_the_first(client: httpx2.AsyncClient, problem: Problem) -> None:
    response = await client.post("/v1/ask", json={"question": "Why?"} | {f"field{n}": n for n in range(500)})
    assert len(problem(response)[2]) == 20
    assert "and 480 more" in response.json()["detail"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large(client: httpx2.AsyncClient, problem: Problem, declared: bool) -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * 65_536

    body = b" " * 200_000 if declared else chunks()
    response = await client.post("/v1/ask", content=body, headers=JSON)
    assert problem(response) == (413, "urn:poise:too-large", ["body"])


@pytest.mark.parametrize(
    "given", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "x+json"]
)
@pytest.mark.parametrize("path", ["/v1/ask", "/v1/documents", "/v1/feedback"])
async def test_a_body_without_json_content_type(
    client: httpx2.AsyncClient, problem: Problem, path: str, given: str | None
) -> None:
    headers = {"content-type": given} if given else {}
    response = await client.post(path, content=b'{"question": "Why?"}', headers=headers)
    assert problem(response) == (415, "urn:poise:unsupported-media-type", ["content-type"])


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8", "application/merge+json"])
async def test_a_body_with_json_content_type(client: httpx2.AsyncClient, given: str) -> None:
    response = await client.post("/v1/ask", content=b'{"question": "Why?"}', headers={"content-type": given})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("poise-deadline", b"soon"),
        ("poise-deadline", b"-1"),
        ("poise-deadline", b"1e12"),
        ("poise-deadline", b"9" * 19),
        ("poise-deadline", b"\xff"),
        ("poise-deadline", b""),
        ("poise-deadline", ms(13 * 3_600).encode()),
        ("poise-deadline", ms(-13 * 3_600).encode()),
        ("poise-deadline", b"0"),
        ("poise-deadline", b"253402300799000"),  # the end of the year 9999
        ("poise-min-epoch", b"yesterday"),
        ("poise-min-epoch", b"e1."),
        ("poise-min-epoch", b""),
    ],
)
@pytest.mark.parametrize("path", ["/v1/ask", "/v1/documents", "/v1/feedback"])
async def test_an_invalid_header(
    client: httpx2.AsyncClient, problem: Problem, path: str, header: str, value: bytes
) -> None:
    response = await client.post(path, json={"question": "Why?"}, headers=[(header.encode(), value)])
    assert problem(response) == (400, INVALID, [header])


async def test_a_deadline_that_has_passed(client: httpx2.AsyncClient, problem: Problem) -> None:
    response = await client.post("/v1/ask", json={"question": "Why?"}, headers={"poise-deadline": ms(-5)})
    assert problem(response) == (504, "urn:poise:deadline-exceeded", [])


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", NOT_FOUND),
        ("POST", "/v1/asks", NOT_FOUND),
        ("POST", "/v1/ask/", NOT_FOUND),
        ("GET", "/v1/runs/", NOT_FOUND),
        ("GET", "/v1/ask", NOT_ALLOWED),
        ("PUT", "/v1/documents", NOT_ALLOWED),
        ("TRACE", "/v1/ask", NOT_ALLOWED),
        ("POST", "/healthz", NOT_ALLOWED),
    ],
)
async def test_an_unknown_path_or_method(
    client: httpx2.AsyncClient, problem: Problem, method: str, path: str, expected: tuple[int, str]
) -> None:
    response = await client.request(method, path)
    assert problem(response) == (*expected, [])
    assert ("allow" in response.headers) == (expected == NOT_ALLOWED)


async def test_an_id_that_cannot_be_deleted(client: httpx2.AsyncClient, problem: Problem) -> None:
    assert problem(await client.delete("/v1/documents/" + "a" * 501)) == (400, INVALID, ["id"])
    assert problem(await client.delete("/v1/documents/a%00")) == (400, INVALID, ["id"])
    assert problem(await client.delete("/v1/documents/")) == (400, INVALID, ["id"])
