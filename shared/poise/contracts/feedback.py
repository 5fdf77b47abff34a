"""Feedback: what a person thought of an answer."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from poise.contracts.message import Message

Thumb = Literal["up", "down"]


class Feedback(Message):
    """What a person thought of the answer of one run: `poise.feedback`, key = run."""

    kind: ClassVar[str] = "feedback/1"

    run_id: Annotated[str, Field(min_length=1, max_length=200)]
    id: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """Chosen by the sender: one that comes again with the same id counts once, as it was said last. Absent = one for
    each run: its thumb, its rating and its correction, each as it was said last."""
    thumb: Thumb | None = None
    rating: Annotated[int, Field(ge=1, le=5, strict=True)] | None = None
    """1 = worst, 5 = best."""
    correction: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    """What the answer should have been."""
    comment: Annotated[str, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.thumb is None and self.rating is None and self.correction is None:
            raise ValueError("say at least one of thumb, rating and correction")
        return self
