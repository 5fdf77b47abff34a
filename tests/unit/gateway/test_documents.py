"""POST and DELETE /v1/documents: the published records and the returned epoch."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from poise.contracts import Document, Epoch
from poise.errors import UnavailableError

Problem = Callable[[httpx2.Response], tuple[int, str, list[str]]]


async def test_a_document_is_published_with_its_id_as_key(client: httpx2.AsyncClient, mesh: Any) -> None:
    response = await client.post("/v1/documents", json={"id": "guide/a.md", "text": "# A", "format": "markdown"})
    assert response.status_code == 202
    assert response.json()["documents"] == [{"id": "guide/a.md", "partition": 1, "offset": 1}]
    assert mesh.published == [("guide/a.md", Document(text="# A", source="guide/a.md", format="markdown"))]


@pytest.mark.parametrize(
    ("fields", "source"), [({"source": "The A of things"}, "The A of things"), ({"source": None}, "a"), ({}, "a")]
)
async def test_the_source_defaults_to_the_id(
    client: httpx2.AsyncClient, mesh: Any, fields: dict[str, Any], source: str
) -> None:
    await client.post("/v1/documents", json={"id": "a", "text": "A"} | fields)
    assert mesh.published[0][1].source == source


async def test_the_epoch_of_a_list_covers_all_documents(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/documents", json=[{"id": str(number), "text": "A"} for number in range(5)])
    body = response.json()
    assert [document["id"] for document in body["documents"]] == ["0", "1", "2", "3", "4"]
    epoch = Epoch.decode(body["epoch"])
    assert epoch.topic_id == "topic-id"
    assert {partition: offset for partition, (offset, _) in epoch.partitions.items()} == {0: 4, 1: 5}


async def test_a_byte_order_mark_is_ignored(client: httpx2.AsyncClient, mesh: Any) -> None:
    headers = {"content-type": "application/json"}
    for body in ('\ufeff{"id": "a", "text": "b"}', '\ufeff[{"id": "c", "text": "d"}]'):
        assert (await client.post("/v1/documents", content=body, headers=headers)).status_code == 202
    assert [key for key, _ in mesh.published] == ["a", "c"]


async def test_the_largest_document_is_accepted(client: httpx2.AsyncClient) -> None:
    body = json.dumps({"id": "a", "text": "x" * 800_000}).encode()
    headers = {"content-type": "application/json"}
    assert (await client.post("/v1/documents", content=body, headers=headers)).status_code == 202


async def test_a_deletion_is_a_tombstone(client: httpx2.AsyncClient, mesh: Any) -> None:
    response = await client.delete("/v1/documents/guide/a.md")
    assert response.status_code == 202
    assert response.json()["documents"] == [{"id": "guide/a.md", "partition": 1, "offset": 1}]
    assert mesh.published == [("guide/a.md", None)]
    assert (await client.delete("/v1/documents/guide%2Fb%20c")).json()["documents"][0]["id"] == "guide/b c"


async def test_without_a_broker_nothing_is_accepted(client: httpx2.AsyncClient, mesh: Any, problem: Problem) -> None:
    mesh.error = UnavailableError("the broker did not take it")
    response = await client.post("/v1/documents", json={"id": "a", "text": "A"})
    assert problem(response) == (503, "urn:poise:unavailable", [])
