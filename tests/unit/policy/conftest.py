"""Fixtures of the policy tests."""

import pytest
from counting_detectors import CountingDetectors

from poise.policy import incident_response


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the detectors by predictable ones; the real ones have their own tests."""
    monkeypatch.setattr(incident_response, "Detectors", CountingDetectors)
