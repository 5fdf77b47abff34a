"""Answers and annotations above the record limit cause a fault and a record of what fits; other asks are unaffected."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest

from poise.contracts import Answer, Ask, Generation, RunRecord
from poise.contracts.topics import RECORDS
from poise.worker.runtime import WorkerRuntime
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from poise_services.orchestration.answer import AskHandler

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]


@workflow("much")
async def large(run: Run, ask: Ask) -> Answer:
    """Return an answer of 3 MB, or write 3 MB of annotations, as the question requests."""
    if ask.question == "drafts":
        run.annotations.generations += [Generation(variant="v", raw="é" * 500_000) for _ in range(3)]
    return Answer(run_id=run.id, text="x" * (3_000_000 if ask.question == "all" else 10), rung="primary")


async def test_an_answer_of_three_megabytes_is_a_fault_and_others_are_answered(open_gateway: Open) -> None:
    async with open_gateway(AskHandler([large]).answer) as (client, mesh):

        async def ask(question: str) -> httpx2.Response:
            return await client.post("/v1/ask", json={"question": question, "workflow": "much"})

        assert (await ask("few")).status_code == 200
        for refused in [await ask("all") for _ in range(3)]:
            fault = refused.json()
            assert (fault["status"], fault["retryable"]) == (500, False)
            assert "workflow 'much' returned an answer of 300" in fault["detail"]
        drafts = await ask("drafts")
        assert drafts.status_code == 200
        assert {reply.status_code for reply in await asyncio.gather(*(ask("few") for _ in range(30)))} == {200}

        run = drafts.json()["run_id"]
        (found,) = await mesh.logs.read_key(RECORDS.name, run)
        record = RunRecord.parse(found.value or b"")
    assert record.shortened == ("generations",)
    assert [len(written.raw or "") > 100_000 for written in record.generations] == [True] * 3
    assert record.answer is not None
    assert record.answer.text == "x" * 10
