"""The lab, on real parts: a variant that gets worse is noticed by its answers, and draws move away from it."""

from pathlib import Path

import pytest

from poise_labs.lab import LabEnvironment, load_scenario, report_of, run_arm, sample_questions

pytestmark = [pytest.mark.integration, pytest.mark.e2e]


async def test_a_variant_that_gets_worse_is_drawn_no_more(tmp_path: Path) -> None:
    scenario = load_scenario("worse").of_asks(700)
    questions = sample_questions(scenario.asks, 1)
    async with LabEnvironment(tmp_path, scenario, questions, 1) as ground:
        arm = await run_arm(ground, questions, 1, loop=True, rate=scenario.rate, progress=lambda *_: None)
    found = report_of(scenario, arm)
    assert found.noticed is not None
    assert found.false_alarms == 0
    assert found.moved == pytest.approx(0.48)
    assert found.hurt > 0
    assert found.auc is not None
    assert found.auc > 0.95
    last = [one.drawn for one in arm.requests[-100:]]
    assert last.count("cheap") < 15
