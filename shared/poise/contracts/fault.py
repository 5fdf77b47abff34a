"""Fault: the typed error reply, in the form of problem details (RFC 9457)."""

import json
from typing import Annotated, ClassVar, Final

from pydantic import Field

from poise.contracts.bounds import Quantity
from poise.contracts.message import Message

MAX_SHORT_DETAIL: Final = 1_000
"""Characters of a fault's detail, where all of it is more than its address takes."""


class FieldError(Message):
    """What is wrong with one field or header."""

    kind: ClassVar[str] = "field-error/1"

    field: str
    """Dotted path in the body (`messages.0.role`), or the header's name."""
    detail: str


class Fault(Message):
    """Why there is no answer."""

    kind: ClassVar[str] = "fault/1"

    type: str
    """A URI that names the kind of problem, `urn:poise:…`; the table is in docs/WIRE.md."""
    title: str
    status: Annotated[int, Field(ge=0, le=999)]
    """The HTTP status it maps to."""
    detail: str
    retryable: bool
    """Whether the same request may succeed later."""
    retry_after: Quantity | None = None
    """Seconds after which it may, where that is known."""
    errors: tuple[FieldError, ...] = ()

    def encode(self) -> bytes:
        """The body as UTF-8 JSON. A fault can always be sent: in its words, what has no form in UTF-8 is replaced."""
        try:
            return super().encode()
        except ValueError:
            words = self.model_dump(exclude_none=True)
            return json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def shortened(self) -> "Fault":
        """This fault with no more than the beginning of its detail."""
        return self.model_copy(update={"detail": self.detail[:MAX_SHORT_DETAIL], "errors": ()})
