import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import Command, Outsider
from small_mesh import POISON, answering, indexing

from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _mesh(kafka: str) -> AsyncIterator[None]:
    settings = MeshSettings(broker=kafka)
    async with answering(settings), indexing(settings):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outsider(kafka: str) -> AsyncIterator[Outsider]:
    client = Outsider(kafka)
    await client.start()
    yield client
    await client.stop()


async def letters(poise: Command, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await poise("dlq", "ls", "--json", *arguments)).stdout)
    return found


async def of(poise: Command, origin: str, *arguments: str) -> list[dict[str, Any]]:
    """The dead letters whose first copy stood there, whole."""
    found = []
    for item in await letters(poise, *arguments):
        whole = json.loads((await poise("dlq", "show", item["id"], "--json")).stdout)
        if {"name": "poise-origin", "value": origin} in whole["headers"]:
            found.append(whole)
    return found


async def test_a_dead_letter_is_listed_shown_and_sent_again_once(poise: Command, outsider: Outsider) -> None:
    sent = await outsider.send("poise.ask.interactive", b'{"question":"fail"}')
    await outsider.reply(sent)  # the fault comes after the dead letter was written
    [letter] = await of(poise, str(sent.position), "--tier", "orchestration", "--error", "TerminalError")
    assert (letter["topic"], letter["message"]) == ("poise.ask.interactive", "the handler was asked to fail")
    assert letter["value"] == '{"question":"fail"}'
    assert {"name": "reply_to", "value": outsider.topic} in letter["headers"]

    page = (await poise("dlq", "show", letter["id"])).stdout
    assert '"question": "fail"' in page
    assert "TerminalError: the handler was asked to fail" in page
    assert letter["id"] in (await poise("dlq", "ls", "--tier", "orchestration")).stdout

    would = await poise("dlq", "redrive", letter["id"], "--dry-run")
    assert f"{letter['id']} (TerminalError) → poise.ask.interactive" in would.stdout
    again = await poise("dlq", "redrive", letter["id"])
    assert again.stdout.endswith("1 dead letter sent again\n")
    assert letter["id"] not in {item["id"] for item in await letters(poise)}
    assert letter["id"] in {item["id"] for item in await letters(poise, "--all")}

    twice = await poise("dlq", "redrive", letter["id"])
    assert twice.exit_code == 1
    assert "was sent again already" in twice.stderr


async def test_an_old_version_of_a_document_is_not_brought_back(poise: Command, tmp_path: Path) -> None:
    id_ = uuid4().hex
    (tmp_path / "a.txt").write_text(POISON, encoding="utf-8")
    await poise("ingest", str(tmp_path), "--prefix", id_)
    [letter] = (await letters(poise, "--tier", "retrieval", "--error", "TerminalError"))[-1:]
    (tmp_path / "a.txt").write_text("good words", encoding="utf-8")
    await poise("ingest", str(tmp_path), "--prefix", id_)
    shown = await poise("dlq", "redrive", letter["id"])
    assert shown.exit_code == 1
    assert f"not sent {letter['id']} is an old version" in shown.stderr


async def test_what_no_client_of_ours_would_write_can_be_shown_and_sent_again(
    poise: Command, outsider: Outsider
) -> None:
    sent = await outsider.send(
        "poise.ask.interactive", b"\xff\xfe{", b"\xffkey", poise_redrives=b"many", poise_dead_redriven="poise.x/0/0"
    )
    await outsider.reply(sent)
    [letter] = await of(poise, str(sent.position))
    assert (letter["value_base64"], letter["key_base64"]) == ("//57", "/2tleQ==")
    assert "00000000  ff fe 7b" in (await poise("dlq", "show", letter["id"])).stdout
    assert (await poise("dlq", "redrive", letter["id"])).exit_code == 0


async def test_a_key_that_is_no_text_can_be_sent_again(poise: Command, outsider: Outsider) -> None:
    key = b"\xff" + uuid4().bytes
    sent = await outsider.send("poise.documents", b"{", key)
    await outsider.reply(sent)
    [letter] = await of(poise, str(sent.position), "--tier", "retrieval")
    assert (await poise("dlq", "redrive", letter["id"])).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "orchestration/0/99999999"), "there is no dead letter orchestration/0/99999999"),
        (("show", "nobody/0/1"), "'nobody' has no dead letters"),
        (("ls", "--tier", "gateway"), "'gateway' has no dead letters"),
    ],
)
async def test_what_is_not_there_is_said(poise: Command, arguments: tuple[str, ...], said: str) -> None:
    shown = await poise("dlq", *arguments)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert said in shown.stderr
