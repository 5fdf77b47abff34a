"""A run that ended with a fault says nothing about any variant, so it is not scored."""

from typing import Any

from poise.contracts import RunRecord
from poise.errors import DeadlineExceededError
from poise_services.evaluation.handlers import Scorer


async def test_a_run_without_answer_and_draw_is_not_scored() -> None:
    nobody: Any = None  # publishing anything fails
    fault = DeadlineExceededError("no reply before the deadline").fault()
    record = RunRecord(
        run_id="r", workflow="made up", tenant="acme", question="?", started=1.0, finished=2.0, fault=fault
    )
    await Scorer().score(record, nobody)
