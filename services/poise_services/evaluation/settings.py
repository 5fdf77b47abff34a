"""The evaluation tier's settings."""

from typing import ClassVar

from poise.settings import Settings


class EvaluationSettings(Settings):
    """The settings of an evaluation worker."""

    model_config = Settings.model_config | {"env_prefix": "POISE_EVALUATION_"}

    table: ClassVar[str] = "evaluation"

    decide: bool = True
    """Whether this worker may decide on policies; one such worker decides for each partition of the scores."""
    embedding: bool = False
    """Whether `quality` also compares sentences by embeddings: for models that paraphrase. It takes about 20 ms of a
    core for each sentence of an answer, and 10 ms for each line of an uncached passage. All workers must
    have the same value."""
