"""The retrieval tier's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from poise.settings import Settings


class RetrievalSettings(Settings):
    """Settings of a retrieval worker."""

    model_config = Settings.model_config | {"env_prefix": "POISE_RETRIEVAL_"}

    table: ClassVar[str] = "retrieval"
    renamed: ClassVar[Mapping[str, str]] = {
        "documents_at_once": "embedding_threads",
        "model_file": "embedding_model_file",
        "embed_share": "embedding_budget",
        "checkpoint_every": "checkpoint_interval",
        "epoch_waits": "max_epoch_waiters",
    }

    embedding_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Threads that embed documents, on Linux at low priority; queries have their own thread."""
    embedding_model_file: Path | None = None
    """A file of the embedding model to use instead of its package's. It must be the same model."""
    embedding_budget: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of a request's remaining time for embedding its query; beyond it, search is sparse only."""
    candidates: Annotated[int, Field(ge=10, le=1_000)] = 50
    """Passages that dense and sparse search each contribute to the fusion."""
    checkpoint_interval: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between writes of the index to disk while passages arrive; a crash repeats what came after the last."""
    max_epoch_waiters: Annotated[int, Field(ge=1)] = 128
    """Requests that wait for their epochs concurrently; further ones get `retry-after`. The epoch of a document that
    became a dead letter is never reached: requests that wait for it must not use up the capacity for waiting, here and
    in orchestration."""
    reply_margin: Annotated[float, Field(ge=0)] = 0.25
    """Seconds before a request's deadline at which waiting for its epoch ends, so that the fault arrives in time."""
