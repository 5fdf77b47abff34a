"""Detection: whether a variant has become worse, judged after each answer."""

from poise.policy.detection.detectors import Detectors
from poise.policy.detection.observation import Observation

__all__ = ["Detectors", "Observation"]
