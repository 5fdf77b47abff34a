"""The drill on a real stack: its rows describe what happened."""

from pathlib import Path

import pytest

from poise_labs.cli.drill_view import answer_notes
from poise_labs.cli.sample_corpus import corpus
from poise_labs.drill import SCENARIOS, DrillEnvironment, run_drill

pytestmark = [pytest.mark.integration, pytest.mark.e2e]


async def test_each_answer_names_the_failure(tmp_path: Path) -> None:
    scenarios = [
        scenario
        for scenario in SCENARIOS
        if scenario.fails in {"nothing; from the cache", "the primary model", "integration: an empty 200"}
        or scenario.questions == "changed"
    ]
    async with DrillEnvironment(tmp_path, corpus()) as environment:
        outcomes = [outcome async for outcome in run_drill(environment, scenarios)]
    usual, cached, failover, empty, stale = outcomes
    assert [next(iter(outcome.rungs)) for outcome in outcomes] == ["primary", "primary", "variant", "primary", "stale"]
    assert answer_notes(usual) == ""
    assert answer_notes(cached).startswith("cached, ")
    assert answer_notes(failover).startswith("text of second; first failed: ")
    assert "integration notices answered 200 with nothing in it" in answer_notes(empty)
    assert "has changed" in answer_notes(stale)
    assert all(asked.answer and asked.answer.cached for asked in (*cached.asked, *stale.asked))
