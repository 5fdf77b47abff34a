"""A short balance act on a whole stack with the small model: a fault begins under load, and no ask is lost."""

from pathlib import Path

import pytest

from poise.client import Poise
from poise.contracts import RunRecord
from poise.contracts.topics import RECORDS
from poise.settings import MeshSettings
from poise.stack.options import Ports, StackOptions
from poise.stack.stack import Stack
from poise_labs.balance.environment import FAULTY, STEADY
from poise_labs.balance.scenario import BalancePlan
from poise_labs.cli.balance import run_balance
from poise_labs.cli.sample_corpus import corpus

pytestmark = [pytest.mark.integration, pytest.mark.e2e]


async def test_a_fault_begins_under_load_and_no_ask_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "balance.svg"
    documents = {id_: document for id_, document in corpus().items() if id_ in {"python/with", "python/lambda"}}
    async with (
        Stack(StackOptions(tmp_path / "stack", ports=Ports(gateway=None))) as stack,
        Poise(settings=MeshSettings(broker=stack.broker)) as poise,
    ):
        await poise.ask("What is a lambda?", timeout=60, min_epoch=await poise.ingest(documents), cache="no-store")
        timeline = await run_balance(stack, poise, BalancePlan(before_fault=3, until_noticed=12), picture=picture)
        assert not any(worker.overrides for worker in stack.workers), "no worker keeps the variants of the act"
        records = [RunRecord.parse(record.value or b"") for record in await poise.mesh.logs.read_topic(RECORDS.name)]
    drawn = [record.draw for record in records if record.draw is not None and record.draw.policy == "balance"]
    assert {draw.variant for draw in drawn} <= {STEADY, FAULTY}
    assert {draw.policy_version for draw in drawn} <= {0, 1}, "version 0 is active until the policy is set"
    assert len(timeline.answers) >= 15
    assert all(draw.raw for draw in drawn), "a model wrote every answer"
    assert [mark.kind for mark in timeline.events[:2]] == ["set", "fault"]
    shown = capsys.readouterr().out
    assert "A fault without an error" in shown
    assert "no ask failed" in shown
    assert picture.read_text().startswith("<svg")
