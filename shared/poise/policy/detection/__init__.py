"""Detection: whether a variant has become worse, told from one answer after another."""

from poise.policy.detection.detectors import Detectors
from poise.policy.detection.observation import Observation

__all__ = ["Detectors", "Observation"]
