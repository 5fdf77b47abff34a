import time
from pathlib import Path

import pytest
from integration_kit import Command
from small_mesh import answering, indexing

from poise.settings import MeshSettings
from poise.stack import state
from poise.stack.state import StackState
from poise_labs.cli.sample_corpus import EXAMPLE_QUESTIONS

pytestmark = pytest.mark.integration


async def test_the_demo_uses_a_running_stack(poise: Command, kafka: str, tmp_path: Path) -> None:
    settings = MeshSettings(broker=kafka)
    async with answering(settings) as asked, indexing(settings):
        with state.lock(tmp_path):
            state.write_state(tmp_path, StackState(pid=1, ready=True, since=time.time(), broker=kafka))
            first = await poise("demo", "--dir", str(tmp_path))
            second = await poise("demo", "--dir", str(tmp_path))
    for shown in (first, second):
        assert shown.exit_code == 0
        assert f"using the stack that runs in {tmp_path}" in shown.stderr.replace("\n", "")
        assert all(f"you asked: {question}" in shown.stdout for question in EXAMPLE_QUESTIONS)
        assert shown.stdout.count("by tier: ") == len(EXAMPLE_QUESTIONS)
        assert "First answer after" in shown.stdout
        assert "What to try next" in shown.stdout
        assert "stopped" not in shown.stderr
    assert "documents: 79 unchanged" in second.stderr
    assert asked.qsize() == 2 * len(EXAMPLE_QUESTIONS)
