"""The evaluation tier's settings."""

from typing import ClassVar

from poise.settings import Settings


class EvaluationSettings(Settings):
    """What an evaluation worker needs to know."""

    model_config = Settings.model_config | {"env_prefix": "POISE_EVALUATION_"}

    table: ClassVar[str] = "evaluation"

    decide: bool = True
    """Whether this worker may decide over policies; of those that may, one does for each partition of the scores."""
    embedding: bool = False
    """Whether `quality` also compares sentences by meaning: for models that answer in their own words. Some 20 ms of a
    core for each sentence of an answer, 10 for each line of a passage not seen lately; the same for all workers."""
