import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from integration_kit import Command
from small_mesh import POISON, indexing

from poise.contracts import Epoch
from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _mesh(kafka: str) -> AsyncIterator[None]:
    async with indexing(MeshSettings(broker=kafka)):
        yield


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """Return a folder of files that were never ingested."""
    folder = tmp_path / "books"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.md", "b.txt", "sub/c.rst"):
        (folder / name).write_text(f"{name} of {uuid4()}", encoding="utf-8")
    return folder


@pytest.fixture
def prefix() -> str:
    """Return a prefix that separates the documents of one test from those of others."""
    return f"{uuid4().hex[:8]}/"


async def test_only_new_and_changed_files_are_ingested(poise: Command, books: Path, prefix: str) -> None:
    first = await poise("ingest", str(books), "--prefix", prefix)
    assert (first.exit_code, first.stdout) == (0, "3 documents: 3 new · indexed as 9 passages\n")

    (books / "a.md").write_text("changed", encoding="utf-8")
    (books / "d.md").write_text("new", encoding="utf-8")
    second = await poise("ingest", str(books), "--prefix", prefix)
    assert second.stdout == "4 documents: 1 new, 1 changed, 2 unchanged · indexed as 6 passages\n"

    third = await poise("ingest", str(books), "--prefix", prefix)
    assert third.stdout == "4 documents: 4 unchanged\n"

    forced = await poise("ingest", str(books), "--prefix", prefix, "--force")
    assert forced.stdout.endswith("· indexed as 12 passages\n")


async def test_json_output_contains_the_epoch(poise: Command, books: Path, prefix: str) -> None:
    first = json.loads((await poise("ingest", str(books), "--prefix", prefix, "--json")).stdout)
    assert (first["documents"], first["new"], first["indexed"], first["passages"]) == (3, 3, 3, 9)
    (books / "a.md").write_text("changed", encoding="utf-8")
    second = json.loads((await poise("ingest", str(books), "--prefix", prefix, "--json", "--no-wait")).stdout)
    before, after = Epoch.decode(first["epoch"]), Epoch.decode(second["epoch"])
    assert after.reached(before)
    assert not before.reached(after)


async def test_refused_files_are_named_and_the_others_ingested(poise: Command, books: Path, prefix: str) -> None:
    (books / "empty.txt").touch()
    (books / "binary.md").write_bytes(b"\0")
    shown = await poise("ingest", str(books), "--prefix", prefix)
    assert (shown.exit_code, shown.stdout) == (0, "3 documents: 3 new, 2 refused · indexed as 9 passages\n")
    assert f"refused {books}/empty.txt: is empty\n" in shown.stderr
    assert f"refused {books}/binary.md: is binary\n" in shown.stderr


async def test_a_document_that_became_a_dead_letter_is_reported_and_ingested_again_next_time(
    poise: Command, books: Path, prefix: str
) -> None:
    (books / "bad.txt").write_text(POISON, encoding="utf-8")
    shown = await poise("ingest", str(books), "--prefix", prefix)
    assert (shown.exit_code, shown.stdout) == (0, "3 documents: 3 new, 1 refused · indexed as 9 passages\n")
    assert f"refused {prefix}bad.txt: became a dead letter, see `poise dlq ls`: it is poison\n" in shown.stderr
    again = await poise("ingest", str(books), "--prefix", prefix, "--json")
    found = json.loads(again.stdout)
    assert (found["unchanged"], [item["name"] for item in found["refused"]]) == (3, [f"{prefix}bad.txt"])


async def test_ingesting_no_document_is_an_error(poise: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    shown = await poise("ingest", str(tmp_path))
    assert (shown.exit_code, shown.stdout) == (1, "no documents, 1 refused\n")
