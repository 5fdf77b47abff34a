"""Bounds of numbers that come from outside: JSON has numbers of any size, and what is computed with them does not."""

from typing import Annotated, Final

from pydantic import Field

INT64: Final = 2**63 - 1
"""The largest integer that Kafka and SQLite have."""
MAX_QUANTITY: Final = 1e12
"""Of a quantity that nobody has more of: weights, seconds, money."""

Int64 = Annotated[int, Field(ge=0, le=INT64)]
"""An offset, a version, a number of things, or unix milliseconds."""
UnixSeconds = Annotated[float, Field(ge=-INT64 / 1_000, le=INT64 / 1_000)]
"""Unix seconds, as far as the time of a Kafka record reaches."""
Share = Annotated[float, Field(ge=0, le=MAX_QUANTITY)]
"""A weight or a share, of which the sum of all says how much it is."""
Quantity = Annotated[float, Field(ge=0, le=MAX_QUANTITY)]
"""Seconds, milliseconds or money that somebody has given."""
Elapsed = Annotated[float, Field(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
"""Seconds or milliseconds between two moments, as clocks have told them: one that was set back makes them negative."""
Finite = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
"""Any number that can be computed with: a product with a factor of a unit is a number still."""
