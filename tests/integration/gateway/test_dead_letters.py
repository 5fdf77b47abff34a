"""Dead letters over HTTP, on a real socket and a real Kafka."""

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import httpx2
import pytest
from integration_kit import PlainKafkaClient, until

from poise.contracts import Answer, Ask
from poise.errors import TerminalError
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - used in this test only
HEADERS = {"authorization": f"Bearer {TOKEN}"}
DEAD_LETTERS = "/v1/admin/dead-letters"


class FailingOnceTier:
    """Fails on the first attempt of each question, and records the questions."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, int]] = []

    async def answer(self, ask: Ask, context: Context) -> Answer:
        redrives = context.envelope.redrives or 0
        self.handled.append((ask.question, redrives))
        if not redrives:
            raise TerminalError("not the first time")
        return Answer(run_id=context.run, text="yes", rung="primary")


async def test_dead_letters_are_listed_shown_redriven_and_purged(open_gateway: Open, kafka: str) -> None:
    tier, key = FailingOnceTier(), uuid4().hex
    plain_client = PlainKafkaClient(kafka)
    await plain_client.start()
    async with open_gateway(tier.answer, admin_token=TOKEN) as (client, _):
        client.headers.update(HEADERS)
        for question in ("one", "two", "three"):
            sent = await plain_client.send("poise.ask.interactive", Ask(question=question).encode(), key=key.encode())
            await plain_client.reply(sent)  # the fault is sent after the dead letter was written
        await plain_client.stop()

        listed = (await client.get(DEAD_LETTERS, params={"key": key, "newer_than": "1h", "limit": 2})).json()
        assert listed["more"] == 1
        assert [(item["error"], item["state"]) for item in listed["dead_letters"]] == [("TerminalError", "dead")] * 2
        rest = (await client.get(DEAD_LETTERS, params={"key": key, "skip": 2})).json()
        ids = [item["id"] for item in (*listed["dead_letters"], *rest["dead_letters"])]
        assert len(set(ids)) == 3
        whole = (await client.get(f"{DEAD_LETTERS}/{ids[0]}")).json()
        assert (whole["key"], whole["value"]) == (key, '{"question":"one"}')
        assert "TerminalError: not the first time" in whole["traceback"]

        chosen = {"tier": "orchestration", "error": "TerminalError", "key": key}
        would = (await client.post(f"{DEAD_LETTERS}/redrive", json={**chosen, "dry_run": True})).json()
        assert would == {"outcomes": [{"id": id_} for id_ in ids], "more": 0, "dry_run": True}
        assert len(tier.handled) == 3

        first = (await client.post(f"{DEAD_LETTERS}/redrive", json={**chosen, "limit": 1})).json()
        assert (first["outcomes"][0]["id"], first["more"]) == (ids[0], 2)
        again = (await client.post(f"{DEAD_LETTERS}/redrive", json=chosen)).json()
        assert ([item["id"] for item in again["outcomes"]], again["more"]) == (ids[1:], 0)
        twice = (await client.post(f"{DEAD_LETTERS}/redrive", json={"ids": ids})).json()
        assert all("was sent again already" in item["refused"] for item in twice["outcomes"])
        assert (await client.post(f"{DEAD_LETTERS}/redrive", json=chosen)).json()["outcomes"] == []
        await until(lambda: len(tier.handled) >= 6)
        assert sorted(tier.handled) == sorted((question, n) for question in ("one", "two", "three") for n in (0, 1))

        purged = (await client.post(f"{DEAD_LETTERS}/purge", json={"ids": ids[:2]})).json()
        assert (sorted(purged["purged"]), purged["more"]) == (sorted(ids[:2]), 0)
        left = (await client.get(DEAD_LETTERS, params={"key": key, "all": "true"})).json()
        assert [(item["id"], item["state"]) for item in left["dead_letters"]] == [(ids[2], "redriven")]
        assert (await client.get(f"{DEAD_LETTERS}/{ids[0]}")).status_code == 404


async def test_binary_data_is_base64(open_gateway: Open, kafka: str) -> None:
    plain_client = PlainKafkaClient(kafka)
    await plain_client.start()
    key = b"\xff" + uuid4().bytes
    async with open_gateway(FailingOnceTier().answer, admin_token=TOKEN) as (client, _):
        sent = await plain_client.send("poise.ask.interactive", b"\xff\xfe{", key=key)
        await plain_client.reply(sent)
        await plain_client.stop()
        listed = (await client.get(DEAD_LETTERS, params={"error": "InvalidMessageError"}, headers=HEADERS)).json()
        views = [
            (await client.get(f"{DEAD_LETTERS}/{i['id']}", headers=HEADERS)).json() for i in listed["dead_letters"]
        ]
    wanted = base64.b64encode(key).decode()
    [view] = [view for view in views if view.get("key_base64") == wanted]
    assert view["value_base64"] == "//57"


@pytest.mark.parametrize("id_", ["retrieval/0/99999999", "nobody/0/1", "retrieval/0/x", "retrieval/9/1"])
async def test_an_unknown_dead_letter_is_404(open_gateway: Open, id_: str) -> None:
    async with open_gateway(FailingOnceTier().answer, admin_token=TOKEN) as (client, _):
        response = await client.get(f"{DEAD_LETTERS}/{id_}", headers=HEADERS)
        unknown = await client.post(f"{DEAD_LETTERS}/purge", json={"ids": ["retrieval/0/99999999"]}, headers=HEADERS)
    assert (response.status_code, response.json()["type"]) == (404, "urn:poise:not-found")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (400, "ids")
