"""Workers are killed at random while asks arrive: every run is answered.

No inference runs twice if only orchestration is killed.

`POISE_CHAOS_RUNS` sets the number of runs, `POISE_CHAOS_SEED` the kills.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import pytest
from chaos_load import at_rate
from chaos_runs import RunsUnderChaos, again, cache_log_lines, workers_under_chaos

RUNS: Final = int(os.environ.get("POISE_CHAOS_RUNS", "2000"))
RATE: Final = float(os.environ.get("POISE_CHAOS_RUNS_RATE", "80"))
SEED: Final = int(os.environ.get("POISE_CHAOS_SEED", "1"))
BETWEEN_KILLS: Final = (80, 240)
"""Runs."""
WORKERS: Final = {"orchestration": 3, "retrieval": 1, "inference": 2}

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900 + RUNS // 5)]


async def play(played: RunsUnderChaos, runs: int, *disasters: Awaitable[None]) -> None:
    """Send all asks while disasters run; cancel the disasters at the end."""
    tasks = [asyncio.ensure_future(disaster) for disaster in disasters]
    try:
        await played.ask_all(runs, at_rate(RATE))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def assert_all_answered(played: RunsUnderChaos, runs: int) -> None:
    requests = list(played.history.requests.values())
    assert len(requests) == runs
    assert [request for request in requests if request.outcome != "answer"] == []
    assert [request for request in requests if played.history.of(request)[:1] != ["answer"]] == []
    assert {request.id for request in requests} <= played.records.keys()


async def test_no_inference_runs_twice_if_orchestration_workers_are_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with workers_under_chaos(tmp_path, WORKERS, SEED) as played:
        kills = played.supervisor.kill_as_it_goes(played.of("orchestration"), played.history, BETWEEN_KILLS)
        await play(played, RUNS, kills)
    with capsys.disabled():
        sys.stdout.write(played.report(f"orchestration killed, seed {SEED}"))
    assert_all_answered(played, RUNS)
    assert len(played.supervisor.kills) >= RUNS // sum(BETWEEN_KILLS)
    assert again(played.asked) > 0  # otherwise no kill interrupted a run
    twice = [question for question, count in played.paid["begun"].items() if count > 1]
    assert not twice, cache_log_lines(played)
    assert len(played.paid["ended"]) >= RUNS


async def test_all_asks_are_answered_if_inference_and_redis_fail_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = RUNS // 4
    async with workers_under_chaos(tmp_path, WORKERS, SEED) as played:
        victims = [*played.of("orchestration"), *played.of("inference")]
        kills = played.supervisor.kill_as_it_goes(victims, played.history, (30, 90))

        async def stop_and_start_redis() -> None:
            await played.history.reach(runs * 3 // 10)
            await played.valkey.stop()
            await played.history.reach(runs * 6 // 10)
            await played.valkey.start()

        await play(played, runs, kills, stop_and_start_redis())
    with capsys.disabled():
        sys.stdout.write(played.report(f"orchestration, inference and Redis killed, seed {SEED}"))
    assert_all_answered(played, runs)
    assert again(played.paid["begun"]) < runs  # at-least-once: the report has the number
