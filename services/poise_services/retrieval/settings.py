"""The retrieval tier's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from poise.settings import Settings


class RetrievalSettings(Settings):
    """What a retrieval worker needs to know."""

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
    """Threads that embed documents. On Linux they take what processor time others leave; queries have their own."""
    embedding_model_file: Path | None = None
    """The embedding model's file, where that of its package is not to be used. It must be the same model."""
    embedding_budget: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of a request's remaining time in which its query must be embedded; else words alone find passages."""
    candidates: Annotated[int, Field(ge=10, le=1_000)] = 50
    """Passages that each of the two searches, by meaning and by words, puts forward to be fused."""
    checkpoint_interval: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between writes of the index to disk while passages come in; a crash has the rest applied again."""
    max_epoch_waiters: Annotated[int, Field(ge=1)] = 128
    """Requests that may wait for their epochs at once; more are told to come again. A document that could not be
    handled is never reached: who waits for it must not take all the room for waiting, here and in orchestration."""
    reply_margin: Annotated[float, Field(ge=0)] = 0.25
    """Seconds before a request's deadline at which waiting for its epoch ends, so that the fault comes in time."""
