"""Feedback: a person's rating of an answer."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from poise.contracts.field_types import INTEGRAL_FLOAT_AS_INT
from poise.contracts.message import Message
from poise.contracts.run_id import RunId

Thumb = Literal["up", "down"]
VERDICTS: Final = ("thumb", "rating", "correction")
"""At least one of these fields is required."""


class Feedback(Message):
    """A person's rating of the answer of one run: `poise.feedback`, key = run."""

    model_config = ConfigDict(
        json_schema_extra={  # a condition: client generators turn `anyOf` and `not` into other classes
            "if": {"properties": {verdict: {"type": "null"} for verdict in VERDICTS[1:]}},
            "then": {"properties": {VERDICTS[0]: {"type": "string"}}, "required": [VERDICTS[0]]},
        }
    )

    kind: ClassVar[str] = "feedback/1"

    run_id: RunId
    id: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """Chosen by the sender. Of feedback with the same id, only the last counts. Absent = one feedback for each run: its
    last thumb, its last rating and its last correction."""
    thumb: Thumb | None = None
    rating: Annotated[int, Field(ge=1, le=5), INTEGRAL_FLOAT_AS_INT] | None = None
    """1 = worst, 5 = best."""
    correction: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    """The correct answer."""
    comment: Annotated[str, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _require_verdict(self) -> Self:
        if all(getattr(self, verdict) is None for verdict in VERDICTS):
            raise ValueError("at least one of thumb, rating and correction is required")
        return self
