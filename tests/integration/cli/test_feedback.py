"""`poise feedback` publishes feedback and confirms it."""

import time
from random import Random

import pytest
from integration_kit import Command

from poise import Poise
from poise.contracts import Feedback
from poise.contracts.run_id import derive_run_id, new_run_id
from poise.contracts.topics import FEEDBACK

pytestmark = pytest.mark.integration


async def test_feedback_is_keyed_by_its_run(poise: Command, kafka: str) -> None:
    run = derive_run_id("poise.ask.interactive", 0, 0, time.time())
    assert f"noted for run {run}" in (await poise("feedback", run, "--up")).output
    await poise("feedback", run, "--down", "--rating", "2", "--correction", "Bo.", "--comment", "Hm.", "--id", "ada")
    async with Poise(kafka) as client:
        written = [
            Feedback.parse(record.value or b"") for record in await client.mesh.logs.read_key(FEEDBACK.name, run)
        ]
    assert written == [
        Feedback(run_id=run, thumb="up"),
        Feedback(run_id=run, id="ada", thumb="down", rating=2, correction="Bo.", comment="Hm."),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-run", "--up"], "is not a run id"),
        ([new_run_id(time.time(), Random())], "at least one of thumb, rating and correction"),
        ([new_run_id(time.time(), Random()), "--rating", "9"], "rating"),
    ],
)
async def test_invalid_feedback_is_refused(poise: Command, arguments: list[str], message: str) -> None:
    refused = await poise("feedback", *arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr
