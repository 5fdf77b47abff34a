"""Request options that HTTP headers carry: deadline, minimum epoch, caching and trace context."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from poise.contracts import Caching, Envelope, EnvelopeError
from poise.contracts.headers import DEADLINE, MIN_EPOCH, TRACEPARENT, TRACESTATE
from poise.contracts.topics import RUNS_INTERACTIVE
from poise.errors import DeadlineExceededError, InvalidMessageError
from poise.ingestion.epoch_validator import parse_epoch
from poise.rpc.deadlines import resolve_deadline

ACCEPTED_HEADERS: Final = frozenset({DEADLINE, MIN_EPOCH, TRACEPARENT, TRACESTATE})
"""Headers that a client may set. Identity and run id are not among them."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options of one request."""

    deadline: float
    """Unix seconds, as requested; if it exceeds the maximum of an ask, a fault names both."""
    min_epoch: str | None
    cache: Caching | None
    """What `Cache-Control` asks for (RFC 9111)."""
    trace: Mapping[str, str]
    """`traceparent` and `tracestate` (W3C)."""

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[bytes, bytes]], now: float) -> "RequestOptions":
        """Parse an HTTP request's raw headers.

        Args:
            headers: Names in lower case.
            now: Unix seconds.

        Raises:
            InvalidMessageError: A header is malformed or out of range; the error names it.
            DeadlineExceededError: The deadline has passed.
        """
        headers = tuple(headers)
        accepted = [(name, value) for raw, value in headers if (name := raw.decode("latin-1")) in ACCEPTED_HEADERS]
        try:
            envelope = Envelope.read(accepted)
        except EnvelopeError as error:
            raise InvalidMessageError(str(error), [error.error]) from error
        deadline = resolve_deadline(envelope.deadline, now, RUNS_INTERACTIVE.deadlines)
        if envelope.deadline is not None:  # valid; not limited to the topic's maximum, so that a fault can name both
            deadline = envelope.deadline / 1_000
        if deadline <= now:
            raise DeadlineExceededError(f"{DEADLINE} passed {now - deadline:.1f} s ago")
        if envelope.min_epoch is not None:
            parse_epoch(envelope.min_epoch)
        return cls(deadline, envelope.min_epoch, _cache_directive(headers), envelope.trace)


def _cache_directive(headers: Iterable[tuple[bytes, bytes]]) -> Caching | None:
    """Parse `Cache-Control`; unknown directives are ignored (RFC 9111)."""
    value_list = b",".join(value for name, value in headers if name == b"cache-control").decode("latin-1")
    directives = {directive.partition("=")[0].strip().lower() for directive in value_list.split(",")}
    if "no-store" in directives:
        return "no-store"
    return "no-cache" if "no-cache" in directives else None
