import json
import time
from uuid import uuid4

import pytest
from integration_kit import Command

from poise import Poise
from poise.contracts import Score
from poise.contracts.topics import SCORES

pytestmark = pytest.mark.integration


async def test_scores_are_summarized_by_variant(poise: Command, kafka: str) -> None:
    variant, now = uuid4().hex[:8], time.time()
    runs = [("a", 0.5, now), ("b", 0.7, now), ("a", 0.9, now), ("old", 0.0, now - 7_200)]  # a was scored twice
    async with Poise(kafka) as client:
        for run, groundedness, at in runs:
            score = Score(
                run_id=f"{variant}-{run}",
                workflow="answer",
                tenant="t",
                policy="answer",
                policy_version=1,
                variant=variant,
                probability=1.0,
                rung="primary",
                at=at,
                values={"groundedness": groundedness},
            )
            await client.mesh.producer.publish(SCORES, score, key=score.policy)
    shown = await poise("scores", "--since", "1h", "--json")
    [own] = [summary for summary in json.loads(shown.stdout) if summary["variant"] == variant]
    assert (own["runs"], own["rungs"]) == (2, {"primary": 2})
    assert own["values"]["groundedness"]["mean"] == pytest.approx(0.8)
    assert variant in (await poise("scores")).stdout
    assert (await poise("scores", "--since", "soon")).exit_code == 2
