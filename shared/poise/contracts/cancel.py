"""Cancel: a run or a step that is no longer needed."""

from typing import Annotated, ClassVar

from pydantic import Field

from poise.contracts.bounds import Int64
from poise.contracts.message import Message


class Cancel(Message):
    """Stop a run or one of its steps, and drop its waiting messages. Finished work is not affected."""

    kind: ClassVar[str] = "cancel/1"

    run: Annotated[str, Field(min_length=1, max_length=200)]
    step: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Absent = the whole run."""
    tenant: Annotated[str, Field(min_length=1, max_length=200)]
    """The owner of the run; a run of another tenant is not cancelled."""
    deadline: Int64
    """Unix milliseconds until which workers remember the cancel: the deadline of the cancelled work."""
