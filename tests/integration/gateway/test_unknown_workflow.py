"""An ask for an unknown workflow: the caller gets a fault, and there is no dead letter."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest

from poise.contracts import Answer, Ask
from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter
from poise.worker.runtime import WorkerRuntime
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from poise_services.orchestration.answer import AskHandler

pytestmark = pytest.mark.integration

Open = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, WorkerRuntime]]]


@workflow("brief")
async def brief(run: Run, _ask: Ask) -> Answer:
    return Answer(run_id=run.id, text="Yes.", rung="primary")


async def test_an_unknown_workflow_is_a_fault_and_no_dead_letter(open_gateway: Open) -> None:
    async with open_gateway(AskHandler([brief]).answer) as (client, mesh):
        refused = await client.post("/v1/ask", json={"question": "?", "workflow": "nope"})
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:poise:invalid")
        assert [error["field"] for error in refused.json()["errors"]] == ["workflow"]
        assert (await client.post("/v1/ask", json={"question": "?", "workflow": "brief"})).status_code == 200
        dead_letters = await DeadLetterAdmin(mesh.logs, mesh.settings.tenant).select(
            DeadLetterFilter(tier="orchestration")
        )
    assert [entry.error for entry in dead_letters if "nope" in entry.error_message] == []
