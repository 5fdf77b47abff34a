"""`poise cancel` publishes a cancel and prints what it cancels."""

from uuid import uuid4

import pytest
from integration_kit import Command

from poise import Poise
from poise.contracts import Cancel
from poise.contracts.topics import CANCEL

pytestmark = pytest.mark.integration


async def test_a_run_or_a_step_of_it_is_cancelled(poise: Command, kafka: str) -> None:
    run = uuid4().hex
    assert f"cancel run {run}" in (await poise("cancel", run)).output
    assert f"cancel step generate of run {run}" in (await poise("cancel", run, "--step", "generate")).output
    async with Poise(kafka) as client:
        written = [Cancel.parse(record.value or b"") for record in await client.mesh.logs.read_key(CANCEL.name, run)]
    assert [(cancel.run, cancel.step, cancel.tenant) for cancel in written] == [
        (run, None, "default"),
        (run, "generate", "default"),
    ]


async def test_an_empty_run_id_is_refused(poise: Command) -> None:
    refused = await poise("cancel", "")
    assert refused.exit_code != 0
    assert "run" in refused.stderr
