"""Cancel: nobody wants a run, or one step of it, any more."""

from typing import Annotated, ClassVar

from pydantic import Field

from poise.contracts.bounds import Int64
from poise.contracts.message import Message


class Cancel(Message):
    """Stop work on a run or on one of its steps; drop what waits of it. Work that has ended is left as it is."""

    kind: ClassVar[str] = "cancel/1"

    run: Annotated[str, Field(min_length=1, max_length=200)]
    step: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Absent = the whole run."""
    tenant: Annotated[str, Field(min_length=1, max_length=200)]
    """Whose run it is; of another tenant's, nothing is cancelled."""
    deadline: Int64
    """Unix milliseconds until which workers remember it: the deadline of what is cancelled."""
