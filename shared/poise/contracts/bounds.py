"""Bounds of numbers in bodies: JSON allows numbers of any size, but computations with them do not."""

from typing import Annotated, Final

from pydantic import Field

INT64: Final = 2**63 - 1
"""The largest integer in Kafka and SQLite."""
MAX_QUANTITY: Final = 1e12
"""More than any real quantity: weights, seconds, money."""

Int64 = Annotated[int, Field(ge=0, le=INT64)]
"""An offset, a version, a count, or unix milliseconds."""
UnixSeconds = Annotated[float, Field(ge=-INT64 / 1_000, le=INT64 / 1_000)]
"""Unix seconds, in the range of a Kafka record's timestamp."""
Share = Annotated[float, Field(ge=0, le=MAX_QUANTITY)]
"""A weight or a share, relative to the sum of all."""
Quantity = Annotated[float, Field(ge=0, le=MAX_QUANTITY)]
"""An amount of seconds, milliseconds or money."""
Elapsed = Annotated[float, Field(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
"""Seconds or milliseconds between two clock readings; negative if the clock was set back in between."""
Finite = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
"""Any finite number, with room for a unit conversion: multiplied by 1000 or so, it remains finite."""
