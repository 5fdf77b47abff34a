"""Each injection of `make soak` runs once while clients ask: every promise is kept.

`POISE_CHAOS_SEED` sets the order and the choices of each injection.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.soak.__main__ import KINDS, WITHOUT_LEADER, soak

SEED = int(os.environ.get("POISE_CHAOS_SEED", "1"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


async def test_every_promise_is_kept_under_each_injection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = await soak(minutes=1.2, rate=2.0, seed=SEED, folder=tmp_path, log=tmp_path / "soak.jsonl")
    with capsys.disabled():
        sys.stdout.write(f"\n{report.text()}")
    assert {injection.kind for injection in report.injections} == {*KINDS, WITHOUT_LEADER}
    assert not report.wrong
