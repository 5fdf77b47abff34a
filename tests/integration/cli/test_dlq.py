import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import Command, PlainKafkaClient
from small_mesh import POISON, answering, indexing

from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _mesh(kafka: str) -> AsyncIterator[None]:
    settings = MeshSettings(broker=kafka)
    async with answering(settings), indexing(settings):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain_client(kafka: str) -> AsyncIterator[PlainKafkaClient]:
    client = PlainKafkaClient(kafka)
    await client.start()
    yield client
    await client.stop()


async def list_dead_letters(poise: Command, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await poise("dlq", "ls", "--json", *arguments)).stdout)
    return found


async def dead_letters_from(poise: Command, origin: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the complete dead letters whose original record is at `origin`, which is a position."""
    found = []
    for item in await list_dead_letters(poise, *arguments):
        whole = json.loads((await poise("dlq", "show", item["id"], "--json")).stdout)
        if {"name": "poise-origin", "value": origin} in whole["headers"]:
            found.append(whole)
    return found


async def test_a_dead_letter_is_listed_shown_and_redriven_once(poise: Command, plain_client: PlainKafkaClient) -> None:
    sent = await plain_client.send("poise.ask.interactive", b'{"question":"fail"}')
    await plain_client.reply(sent)  # the dead letter is written before the fault
    [letter] = await dead_letters_from(poise, str(sent.position), "--tier", "orchestration", "--error", "TerminalError")
    assert (letter["topic"], letter["message"]) == ("poise.ask.interactive", "the handler was asked to fail")
    assert letter["value"] == '{"question":"fail"}'
    assert {"name": "reply_to", "value": plain_client.topic} in letter["headers"]

    page = (await poise("dlq", "show", letter["id"])).stdout
    assert '"question": "fail"' in page
    assert "TerminalError: the handler was asked to fail" in page
    assert letter["id"] in (await poise("dlq", "ls", "--tier", "orchestration")).stdout

    would = await poise("dlq", "redrive", letter["id"], "--dry-run")
    assert f"{letter['id']} (TerminalError) → poise.ask.interactive" in would.stdout
    again = await poise("dlq", "redrive", letter["id"])
    assert again.stdout.endswith("1 dead letter sent again\n")
    assert letter["id"] not in {item["id"] for item in await list_dead_letters(poise)}
    assert letter["id"] in {item["id"] for item in await list_dead_letters(poise, "--all")}

    twice = await poise("dlq", "redrive", letter["id"])
    assert twice.exit_code == 1
    assert "was sent again already" in twice.stderr


async def test_an_old_version_of_a_document_is_not_redriven(poise: Command, tmp_path: Path) -> None:
    id_ = uuid4().hex
    (tmp_path / "a.txt").write_text(POISON, encoding="utf-8")
    await poise("ingest", str(tmp_path), "--prefix", id_)
    [letter] = (await list_dead_letters(poise, "--tier", "retrieval", "--error", "TerminalError"))[-1:]
    (tmp_path / "a.txt").write_text("good words", encoding="utf-8")
    await poise("ingest", str(tmp_path), "--prefix", id_)
    shown = await poise("dlq", "redrive", letter["id"])
    assert shown.exit_code == 1
    assert f"not sent {letter['id']} is an old version" in shown.stderr


async def test_a_dead_letter_with_binary_data_and_invalid_headers_can_be_redriven(
    poise: Command, plain_client: PlainKafkaClient
) -> None:
    sent = await plain_client.send(
        "poise.ask.interactive", b"\xff\xfe{", b"\xffkey", poise_redrives=b"many", poise_dead_redriven="poise.x/0/0"
    )
    await plain_client.reply(sent)
    [letter] = await dead_letters_from(poise, str(sent.position))
    assert (letter["value_base64"], letter["key_base64"]) == ("//57", "/2tleQ==")
    assert "00000000  ff fe 7b" in (await poise("dlq", "show", letter["id"])).stdout
    assert (await poise("dlq", "redrive", letter["id"])).exit_code == 0


async def test_a_document_with_a_binary_key_can_be_redriven(poise: Command, plain_client: PlainKafkaClient) -> None:
    key = b"\xff" + uuid4().bytes
    sent = await plain_client.send("poise.documents", b"{", key)
    await plain_client.reply(sent)
    [letter] = await dead_letters_from(poise, str(sent.position), "--tier", "retrieval")
    assert (await poise("dlq", "redrive", letter["id"])).exit_code == 0


async def publish_failing(plain_client: PlainKafkaClient, key: str, *, times: int = 1, **headers: str) -> None:
    """Publish `times` asks of a key that become dead letters."""
    for _ in range(times):
        await plain_client.reply(
            await plain_client.send("poise.ask.interactive", b'{"question":"fail"}', key.encode(), **headers)
        )


async def test_filters_select_the_same_dead_letters_in_all_commands(
    poise: Command, plain_client: PlainKafkaClient
) -> None:
    key, other = uuid4().hex, uuid4().hex
    await publish_failing(plain_client, key, times=3)
    await publish_failing(plain_client, other)
    ids = [
        item["id"] for item in await list_dead_letters(poise, "--key", key, "--newer-than", "1h", "--tenant", "default")
    ]
    assert len(ids) == 3
    assert await list_dead_letters(poise, "--key", key, "--older-than", "1h") == []
    assert await list_dead_letters(poise, "--key", key, "--tenant", "acme") == []
    assert [item["id"] for item in await list_dead_letters(poise, ids[1], "--key", key)] == [ids[1]]
    would = await poise("dlq", "redrive", "--key", key, "--error", "TerminalError", "--dry-run")
    assert [line.split()[0] for line in would.stdout.splitlines()[:-1]] == ids
    would = await poise("dlq", "purge", "--key", key, "--dry-run")
    assert would.stdout.endswith("3 dead letters would be purged\n")
    assert len(await list_dead_letters(poise, "--key", key)) == 3


async def test_purge_asks_for_confirmation(poise: Command, plain_client: PlainKafkaClient) -> None:
    key = uuid4().hex
    await publish_failing(plain_client, key, times=2)
    refused = await poise("dlq", "purge", "--key", key, stdin="n\n")
    assert (refused.exit_code, "nothing was purged" in refused.stderr) == (1, True)
    nobody = await poise("dlq", "purge", "--key", key, stdin="")
    assert (nobody.exit_code, "--yes purges without asking" in nobody.stderr) == (2, True)
    [first, second] = await list_dead_letters(poise, "--key", key)
    agreed = await poise("dlq", "purge", first["id"], stdin="y\n")
    assert agreed.stdout.endswith("1 dead letter purged\n")
    assert await list_dead_letters(poise, "--key", key, "--all") == [second]
    assert (await poise("dlq", "purge", "--key", key, "--yes")).stdout.endswith("1 dead letter purged\n")
    assert await list_dead_letters(poise, "--key", key, "--all") == []
    assert "no dead letter" in (await poise("dlq", "redrive", second["id"])).stderr
    assert (await poise("dlq", "purge", "--key", key, "--yes")).stdout == "0 dead letters purged: nothing matches\n"


async def test_a_poison_pill_is_quarantined_after_three_redrives(
    poise: Command, plain_client: PlainKafkaClient
) -> None:
    key = uuid4().hex
    await publish_failing(plain_client, key)
    for times in range(1, 4):
        sent = await poise("dlq", "redrive", "--key", key, "--rate", "100/s")
        assert sent.stdout.endswith("1 dead letter sent again\n")
        async with asyncio.timeout(20):  # until it is a dead letter again
            while [item["redrives"] for item in await list_dead_letters(poise, "--key", key)] != [times]:
                pass
    [pill] = await list_dead_letters(poise, "--key", key)
    assert pill["state"] == "quarantined"
    assert "quarantined: failed 4 times" in (await poise("dlq", "ls", "--key", key)).stdout
    left = await poise("dlq", "redrive", "--key", key)
    assert left.stdout == "0 dead letters sent again, 1 left in quarantine (name one with --force)\n"
    assert left.exit_code == 0
    named = await poise("dlq", "redrive", pill["id"])
    assert (named.exit_code, "is quarantined" in named.stderr) == (1, True)
    by_filter = await poise("dlq", "redrive", "--key", key, "--force")
    assert (by_filter.exit_code, "needs the ids" in by_filter.stderr) == (2, True)
    forced = await poise("dlq", "redrive", pill["id"], "--force")
    assert forced.stdout.endswith("1 dead letter sent again\n")


async def test_reply_to_and_deadline_are_kept_only_on_request(poise: Command, plain_client: PlainKafkaClient) -> None:
    sent = await plain_client.send("poise.ask.interactive", b'{"question":"fail"}')
    await plain_client.reply(sent)
    [letter] = await dead_letters_from(poise, str(sent.position))
    await poise("dlq", "redrive", letter["id"], "--keep-reply-to")
    again = await plain_client.reply(sent)
    assert again.header("poise-kind") == "fault/1"
    past = str(round((time.time() - 5) * 1_000))
    sent = await plain_client.send("poise.ask.interactive", b"{", poise_deadline=past)
    await plain_client.reply(sent)
    [letter] = await dead_letters_from(poise, str(sent.position))
    late = await poise("dlq", "redrive", letter["id"], "--keep-deadline")
    assert (late.exit_code, "would be dropped unhandled" in late.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "--older-than", "soon"), "give 30s, 10m, 2h, 7d"),
        (("redrive", "--all", "--rate", "fast"), "give 10/s, 100/m"),
        (("purge",), "give ids, or select"),
        (("redrive", "--all", "--force"), "needs the ids"),
        (("show", "7"), "is not an id: give tier/partition/offset"),
        (("show", "orchestration/0/99999999"), "no dead letter orchestration/0/99999999"),
        (("show", "nobody/0/1"), "'nobody' has no dead letters"),
        (("ls", "--tier", "gateway"), "'gateway' has no dead letters"),
    ],
)
async def test_an_invalid_selection_is_one_clear_message(
    poise: Command, arguments: tuple[str, ...], message: str
) -> None:
    shown = await poise("dlq", *arguments)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert message in shown.stderr
