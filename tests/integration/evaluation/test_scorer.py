"""The evaluation worker on a real Kafka: every finished run is scored, and undecodable records block nothing."""

import asyncio
import time
from functools import partial
from random import Random
from uuid import uuid4

import pytest
from evaluation_kit import evaluation_tier
from integration_kit import WITHIN, PlainKafkaClient, serving

from poise.contracts import Answer, Draw, Passage, RunRecord, Score, StepRecord
from poise.contracts.run_id import new_run_id
from poise.contracts.topics import RECORDS, SCORES, dead_letter_topic_name
from poise.kafka.record import Record
from poise.scoring import summarize_by_variant
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.embedding_scorer import embedding_scorer
from poise_services.evaluation.run_scores import score_run
from poise_services.evaluation.settings import EvaluationSettings

pytestmark = pytest.mark.integration

SENTENCE = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."


def run_record(run: str, policy: str, raw: str = SENTENCE) -> RunRecord:
    return RunRecord(
        run_id=run,
        workflow="answer",
        tenant="acme",
        question="Who lit the lamp of Harrow Point?",
        started=1.0,
        finished=2.0,
        answer=Answer(run_id=run, text=SENTENCE, rung="primary", variant="small"),
        draw=Draw(variant="small", probability=0.5, policy=policy, policy_version=1, raw=raw, finish_reason="stop"),
        steps=(StepRecord(step="retrieve", ms=3.0),),
        passages=(Passage(id="lamp#0", source="lamp", text=SENTENCE, score=1.0, age=1.0),),
    )


def new_run() -> str:
    return new_run_id(time.time(), Random())


async def wait_for_scores(mesh: WorkerRuntime, policy: str, count: int) -> list[Score]:
    """Wait for `count` scores of a policy and return them."""
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(SCORES.name) as follower:
        found: list[Record] = []
        async for batch in follower:
            found += [record for record in batch if record.key == policy.encode()]
            if len(found) >= count:
                break
    return [Score.parse(record.value or b"") for record in found]


async def test_a_redelivered_run_counts_once(mesh_settings: MeshSettings) -> None:
    policy, first, second = uuid4().hex, new_run(), new_run()
    async with serving(mesh_settings, evaluation_tier) as mesh:
        for record in (run_record(first, policy), run_record(first, policy), run_record(second, policy, raw="")):
            await mesh.producer.publish(RECORDS, record, key=record.run_id)
        scores = await wait_for_scores(mesh, policy, 3)

    assert sorted(score.run_id for score in scores) == sorted([first, first, second])
    (summary,) = summarize_by_variant(scores)
    assert (summary.variant, summary.runs, summary.rungs) == ("small", 2, {"primary": 2})
    assert summary.values["empty"].mean == 0.5
    assert summary.values["groundedness"].mean == 1.0
    assert summary.values["latency_ms.retrieve"].p50 == 3.0


async def test_an_undecodable_record_becomes_a_dead_letter_and_blocks_nothing(mesh_settings: MeshSettings) -> None:
    policy, run, bad = uuid4().hex, new_run(), f'{{"run_id": "{uuid4()}"'.encode()
    plain_client = PlainKafkaClient(mesh_settings.broker)
    await plain_client.start()
    try:
        async with serving(mesh_settings, evaluation_tier) as mesh:
            await plain_client.send(RECORDS.name, bad, key=run.encode())
            await mesh.producer.publish(RECORDS, run_record(run, policy), key=run)
            (score,) = await wait_for_scores(mesh, policy, 1)
            async with asyncio.timeout(WITHIN), mesh.logs.open_stream(dead_letter_topic_name("evaluation")) as letters:
                async for batch in letters:
                    if any(letter.value == bad for letter in batch):
                        break
    finally:
        await plain_client.stop()
    assert score.run_id == run


async def test_semantic_comparison_can_be_enabled(mesh_settings: MeshSettings) -> None:
    policy, run = uuid4().hex, new_run()
    record = run_record(run, policy, raw="Ada Quill put a flame to it.")
    async with (
        embedding_scorer(EvaluationSettings(embedding=True)) as vectors,
        serving(mesh_settings, partial(evaluation_tier, vectors=vectors)) as mesh,
    ):
        await mesh.producer.publish(RECORDS, record, key=run)
        (found,) = await wait_for_scores(mesh, policy, 1)
    assert found.values["raw_nearness"] > 0.5
    assert found.values["quality"] != score_run(record).values["quality"]
