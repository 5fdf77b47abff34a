"""The evaluation tier's settings."""

from typing import ClassVar

from poise.settings import Settings


class EvaluationSettings(Settings):
    """What an evaluation worker needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_EVALUATION_"}

    table: ClassVar[str] = "evaluation"

    decide: bool = True
    """Whether this worker may decide over policies; of those that may, one does for each partition of the scores."""
