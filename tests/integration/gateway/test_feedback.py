"""Feedback from the socket to the scores: the gateway publishes it, a real evaluation worker joins it."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import httpx2
import pytest
from evaluation_kit import evaluation_tier
from integration_kit import WITHIN, serving, settings_for_another_process

from poise.contracts import Answer, Ask, Draw, Feedback, RunRecord, Score
from poise.contracts.topics import FEEDBACK, RECORDS, SCORES
from poise.scoring import VariantSummary, summarize_by_variant
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def answer(ask: Ask, context: Context) -> Answer:
    """Publish a run record for the policy that the question names."""
    given = Answer(run_id=context.run, text="Ada Quill.", rung="primary", variant="small")
    record = RunRecord(
        run_id=context.run,
        workflow="answer",
        tenant=context.tenant,
        question=ask.question,
        started=time.time(),
        finished=time.time(),
        answer=given,
        draw=Draw(variant="small", probability=0.5, policy=ask.question, policy_version=1, raw="Ada Quill."),
    )
    await context.publish(RECORDS, record, key=context.run)
    return given


async def wait_for_summary(mesh: WorkerRuntime, policy: str, messages: int) -> VariantSummary:
    """Return the summary of a policy's only variant once `messages` feedback messages are counted."""
    async with asyncio.timeout(WITHIN), mesh.logs.open_stream(SCORES.name) as follower:
        found: list[Score] = []
        async for batch in follower:
            found += [Score.parse(record.value or b"") for record in batch if record.key == policy.encode()]
            if sum(score.feedback is not None for score in found) >= messages and any(not s.feedback for s in found):
                (summary,) = summarize_by_variant(found)
                return summary
    raise AssertionError("a log reader does not end by itself")


async def test_feedback_is_joined_to_the_scores_of_its_run(open_gateway: Open, mesh_settings: MeshSettings) -> None:
    policy = uuid4().hex
    async with (
        open_gateway(answer) as (client, mesh),
        serving(settings_for_another_process(mesh_settings), evaluation_tier),
    ):
        run = (await client.post("/v1/ask", json={"question": policy})).json()["run_id"]
        feedback = {"run_id": run, "thumb": "down", "rating": 2, "correction": "Bruno Falk, 語."}
        headers = {"traceparent": PARENT, "poise-tenant": "theirs", "poise-run": "another"}
        responses = [await client.post("/v1/feedback", json=feedback, headers=headers) for _ in range(2)]  # sent twice
        other = await client.post("/v1/feedback", json={"run_id": run, "id": "bo", "thumb": "up"})
        summary = await wait_for_summary(mesh, policy, 3)
        [first, *_] = await mesh.logs.read_key(FEEDBACK.name, run)
    assert [(response.status_code, response.json()) for response in responses] == [
        (202, {"run_id": run, "id": run})
    ] * 2
    assert other.json() == {"run_id": run, "id": "bo"}
    assert (summary.variant, summary.runs) == ("small", 1)
    thumb, rating = summary.values["feedback_thumb"], summary.values["feedback_rating"]
    assert (thumb.count, thumb.mean) == (2, 0.5)
    assert (rating.count, rating.mean) == (1, 0.25)
    assert summary.values["groundedness"].count == 1
    assert Feedback.parse(first.value or b"", strict=True) == Feedback.model_validate(feedback)
    assert first.header("poise-kind") == "feedback/1"
    assert (first.header("traceparent") or "").split("-")[1] == PARENT.split("-")[1]


async def test_invalid_feedback_is_not_published(open_gateway: Open) -> None:
    async with open_gateway(answer) as (client, mesh):
        run = (await client.post("/v1/ask", json={"question": "Who?"})).json()["run_id"]
        bad: list[dict[str, object]] = [{"thumb": "up", "colour": 1}, {"rating": 9}, {}, {"thumb": "up", "run_id": "x"}]
        statuses = [
            (await client.post("/v1/feedback", json={"run_id": run} | feedback)).status_code for feedback in bad
        ]
        broken = await client.post(
            "/v1/feedback", content=json.dumps({"run_id": run})[:-1], headers={"content-type": "application/json"}
        )
        assert await mesh.logs.read_key(FEEDBACK.name, run) == []
    assert statuses == [400] * len(bad)
    assert broken.json()["type"] == "urn:poise:invalid"
