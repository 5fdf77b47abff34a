"""What the tests of policies share."""

import pytest
from plain_detectors import PlainDetectors

from poise.policy import decider


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors that a test can foresee; the real ones have tests of their own."""
    monkeypatch.setattr(decider, "Detectors", PlainDetectors)
