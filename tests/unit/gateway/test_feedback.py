"""POST /v1/feedback: the published records, their ids, and what is rejected."""

import json
import time
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from poise.contracts import Feedback
from poise.contracts.run_id import derive_run_id, new_run_id
from poise.errors import UnavailableError

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]
INVALID = "urn:poise:invalid"
DAY = 86_400.0


def a_run(ago: float = 0.0) -> str:
    return new_run_id(time.time() - ago, Random())


async def test_feedback_is_published_with_its_run_as_key(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = a_run()
    said = {"thumb": "down", "rating": 2, "correction": "It does nothing, 語.", "comment": "Too long."}
    response = await client.post("/v1/feedback", json={"run_id": run, "id": "ada", **said})
    assert (response.status_code, response.json()) == (202, {"run_id": run, "id": "ada"})
    assert mesh.published == [(run, Feedback.model_validate({"run_id": run, "id": "ada", **said}))]


async def test_the_id_defaults_to_the_run(client: httpx2.AsyncClient, mesh: Any) -> None:
    run = derive_run_id("poise.ask.interactive", 0, 7, 1.0)  # of an ask from Kafka, without a start time in its id
    response = await client.post("/v1/feedback", json={"run_id": run, "thumb": "up"})
    assert response.json() == {"run_id": run, "id": run}
    assert mesh.published == [(run, Feedback(run_id=run, thumb="up"))]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"thumb": None}, ["body"]),
        ({"thumb": None, "comment": "Hm."}, ["body"]),
        ({"thumb": "sideways"}, ["thumb"]),
        ({"rating": 0}, ["rating"]),
        ({"rating": 6}, ["rating"]),
        ({"rating": True}, ["rating"]),
        ({"rating": "5"}, ["rating"]),
        ({"rating": 2.5}, ["rating"]),
        ({"correction": ""}, ["correction"]),
        ({"correction": "x" * 10_001}, ["correction"]),
        ({"comment": "x" * 10_001}, ["comment"]),
        ({"id": ""}, ["id"]),
        ({"id": "x" * 81}, ["id"]),
        ({"id": 7}, ["id"]),
        ({"colour": "red"}, ["colour"]),
        ({"tenant": "theirs"}, ["tenant"]),
        ({"run_id": None}, ["run_id"]),
        ({"run_id": ""}, ["run_id"]),
        ({"run_id": "x"}, ["run_id"]),
        ({"run_id": str(uuid4())}, ["run_id"]),
        ({"run_id": a_run().upper()}, ["run_id"]),
    ],
)
async def test_invalid_feedback(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem, changes: dict[str, Any], fields: list[str]
) -> None:
    response = await client.post("/v1/feedback", json={"run_id": a_run(), "thumb": "up"} | changes)
    assert problem(response) == (400, INVALID, fields)
    assert mesh.published == []


@pytest.mark.parametrize("ago", [9 * DAY, -DAY])
async def test_a_run_that_can_have_no_record(
    client: httpx2.AsyncClient, mesh: Any, problem: Problem, ago: float
) -> None:
    response = await client.post("/v1/feedback", json={"run_id": a_run(ago), "thumb": "up"})
    assert problem(response) == (404, "urn:poise:not-found", [])
    assert mesh.published == []


async def test_the_longest_feedback_is_accepted(client: httpx2.AsyncClient, problem: Problem) -> None:
    said = {"run_id": a_run(), "correction": "語" * 10_000, "comment": "\N{GRINNING FACE}" * 10_000}
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/feedback", content=json.dumps(said).encode(), headers=headers)
    assert response.status_code == 202
    response = await client.post("/v1/feedback", content=b" " * 300_000, headers=headers)
    assert problem(response) == (413, "urn:poise:too-large", ["body"])


async def test_without_a_broker_nothing_is_accepted(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    mesh.error = UnavailableError("the broker did not take it")
    response = await client.post("/v1/feedback", json={"run_id": a_run(), "thumb": "up"})
    assert problem(response) == (503, "urn:poise:unavailable", [])
