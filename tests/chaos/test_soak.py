"""Each attack of `make soak` once, while clients ask: what strangers and operators can do, and every promise is kept.

`POISE_CHAOS_SEED` sets the order, and each attack's own choices.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.soak.__main__ import KINDS, WITHOUT_LEADER, soak

SEED = int(os.environ.get("POISE_CHAOS_SEED", "1"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


async def test_each_attack_once_and_every_promise_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = await soak(minutes=1.2, rate=2.0, seed=SEED, folder=tmp_path, log=tmp_path / "soak.jsonl")
    with capsys.disabled():
        sys.stdout.write(f"\n{report.text()}")
    assert {one.kind for one in report.injections} == {*KINDS, WITHOUT_LEADER}
    assert not report.wrong
