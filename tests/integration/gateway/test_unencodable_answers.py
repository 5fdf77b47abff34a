"""Answers and annotations of a custom workflow that JSON cannot encode cause one fault that names the field."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest

from poise.contracts import Answer, Ask, Generation
from poise.worker.runtime import WorkerRuntime
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from poise_services.orchestration.answer import AskHandler

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]
HALF = "half of a pair: \ud800"


async def test_an_unencodable_answer_is_one_fault_and_the_workflow_runs_once(open_gateway: Open) -> None:
    started: list[str] = []

    @workflow("odd")
    async def odd(run: Run, ask: Ask) -> Answer:
        started.append(ask.question)
        answer = Answer(run_id=run.id, text="fine", rung="primary")
        if ask.question == "generations":
            run.annotations.generations += [Generation(variant="v", raw=HALF)]
        elif ask.question == "timings":
            answer = answer.model_copy(update={"timings": {"a": object()}})
        elif ask.question == "text":
            answer = answer.model_copy(update={"text": HALF})
        return answer

    async with open_gateway(AskHandler([odd]).answer) as (client, _):
        for question in ("text", "timings", "generations"):
            fault = (await client.post("/v1/ask", json={"question": question, "workflow": "odd"})).json()
            assert (fault["status"], fault["retryable"]) == (500, False), fault
            assert [error["field"].partition(".")[0] for error in fault["errors"]] == [question], fault
        assert (await client.post("/v1/ask", json={"question": "fine", "workflow": "odd"})).status_code == 200
    assert started == ["text", "timings", "generations", "fine"]
