"""Fault: the typed error reply, as problem details (RFC 9457)."""

import json
from typing import Annotated, ClassVar, Final

from pydantic import Field

from poise.contracts.bounds import Quantity
from poise.contracts.message import Message

MAX_SHORT_DETAIL: Final = 1_000
"""Characters of a shortened detail, for a fault that is too large for its reply topic."""


class FieldError(Message):
    """An invalid field or header, and the reason."""

    kind: ClassVar[str] = "field-error/1"

    field: str
    """The dotted path in the body (`messages.0.role`), or the name of the header."""
    detail: str


class Fault(Message):
    """The reason why there is no answer."""

    kind: ClassVar[str] = "fault/1"

    type: str
    """The fault type, a URI: `urn:poise:…`. The table is in docs/WIRE.md."""
    title: str
    status: Annotated[int, Field(ge=0, le=999)]
    """The HTTP status it maps to."""
    detail: str
    retryable: bool
    """Whether the same request may succeed later."""
    retry_after: Quantity | None = None
    """Seconds after which it may, if known."""
    errors: tuple[FieldError, ...] = ()

    def encode(self) -> bytes:
        """Return the body as UTF-8 JSON. Text that UTF-8 cannot encode is replaced, so that any fault can be sent."""
        try:
            return super().encode()
        except ValueError:
            content = self.model_dump(exclude_none=True)
            return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def shortened(self) -> "Fault":
        """Return this fault with a shortened detail and without `errors`."""
        return self.model_copy(update={"detail": self.detail[:MAX_SHORT_DETAIL], "errors": ()})
