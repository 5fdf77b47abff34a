"""What the tests of policies share."""

import pytest
from counting_detectors import CountingDetectors

from poise.policy import incident_response


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors that a test can foresee; the real ones have tests of their own."""
    monkeypatch.setattr(incident_response, "Detectors", CountingDetectors)
