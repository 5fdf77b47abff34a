"""The lab on a real stack: a variant whose answers get worse is detected, and its share decreases."""

from pathlib import Path

import pytest

from poise_labs.lab import LabEnvironment, load_scenario, report_of, run_arm, sample_questions

pytestmark = [pytest.mark.integration, pytest.mark.e2e]


async def test_a_variant_that_gets_worse_loses_its_draws(tmp_path: Path) -> None:
    scenario = load_scenario("worse").of_asks(700)
    questions = sample_questions(scenario.asks, 1)
    async with LabEnvironment(tmp_path, scenario, questions, 1) as environment:
        arm = await run_arm(environment, questions, 1, loop=True, rate=scenario.rate, progress=lambda *_: None)
    report = report_of(scenario, arm)
    assert report.noticed is not None
    assert report.false_alarms == 0
    assert report.moved == pytest.approx(0.48)
    assert report.hurt > 0
    assert report.auc is not None
    assert report.auc > 0.95
    last = [request.drawn for request in arm.requests[-100:]]
    assert last.count("cheap") < 15
