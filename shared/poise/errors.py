"""The errors that Poise raises to a handler, a caller or a person. Each says what happened, to what, and what to do.

    PoiseError
    ├── HandlerError              a handler raises it
    │   ├── RetryableError          the same work may succeed later
    │   │   └── RateLimitedError      another server wants fewer requests
    │   └── TerminalError           the same work never succeeds
    │       ├── MessageError          a message is not what the contract says
    │       │   ├── InvalidMessageError     its body or a header is invalid
    │       │   │   ├── UnknownWorkflowError    an ask names a workflow that does not exist
    │       │   │   └── UndecodableBatchError   a batch of records is damaged, or in an unsupported format
    │       │   └── NewerVersionError       its version is newer than this worker
    │       ├── EncodingError         a message cannot be written as JSON or headers
    │       ├── RecordTooLargeError   a record is larger than its topic allows
    │       └── WorkLimitError        work on a text exceeded its limit of time or memory
    ├── TransportError            the mesh did not carry a request, a reply or a record
    │   ├── UnavailableError        the part that could answer is missing or does not answer
    │   │   └── MissingTopicError     a topic does not exist, or not yet
    │   ├── DeadlineExceededError   the deadline passed: the request may have been handled
    │   └── NotAcknowledgedError    the deadline passed, and the broker had not acknowledged the request
    ├── CallError                 a call ended with something other than its reply
    │   ├── FaultError              a fault came back: the tier that answered has done the retrying
    │   └── RunCancelledError       the run, or this step of it, was cancelled
    ├── NonDeterminismError       a replayed run does not do what its journal says
    └── SetupError                the process cannot start or go on; one line for a person

Any other exception that a handler raises is a bug: it is retried a bounded number of times, then dead-lettered.

Other modules define children of these. Outside the tree are errors of code, a caller's or Poise's (`ValueError`,
`TypeError`, `RuntimeError`), and errors that Poise itself catches and translates: `EnvelopeError` (`poise.contracts`
cannot import this module), `BodyError` (its catchers add the server's name), `FencedError` (a `KafkaError`, because it
passes through aiokafka), and private classes.
"""

import math
from collections.abc import Iterable
from http import HTTPStatus
from typing import ClassVar, Final, Self

from pydantic import ValidationError

from poise.contracts.fault import Fault, FieldError
from poise.text.public_text import redact_addresses

NAMED_FIELDS: Final = 20
"""How many wrong fields a fault names."""
HIGHEST_STATUS: Final = 999
LONGEST_WAIT: Final = 30 * 86_400.0
"""Seconds after which anything may be tried again."""
NAMED_CHARS: Final = 200
"""How much of a field's name it gives."""


class PoiseError(Exception):
    """The base of the errors of Poise. `name` and `status` appear in the fault."""

    name: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable: ClassVar[bool] = False
    dead_letter: ClassVar[bool] = True
    """Dead-letter the message even when a caller receives the fault."""

    def fault(self) -> Fault:
        """Return the fault that the caller receives: without addresses, which only logs have."""
        return Fault(
            type=f"urn:poise:{self.name}",
            title=self.title,
            status=min(max(0, self.status), HIGHEST_STATUS),
            detail=redact_addresses(str(self)),
            retryable=self.retryable,
        )


class HandlerError(PoiseError):
    """A handler could not do its work."""


class RetryableError(HandlerError):
    """The same work may succeed later.

    Args:
        message: What happened, to what, and what to do.
        retry_after: Seconds to wait at least; None leaves it to the policy.
    """

    name = "temporary"
    title = "Temporarily not possible"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        # A value computed from another server's clock or header may be NaN.
        if retry_after is not None:
            retry_after = None if math.isnan(retry_after) else min(max(0.0, retry_after), LONGEST_WAIT)
        self.retry_after = retry_after

    def fault(self) -> Fault:
        """Return the fault that the caller receives, with the time to wait."""
        return super().fault().model_copy(update={"retry_after": self.retry_after})


class RateLimitedError(RetryableError):
    """Another server wants fewer requests.

    Nothing is wrong with the message. While a caller waits, it is never dead-lettered: it is retried for `max_wait`,
    then the caller receives the fault and decides.

    Args:
        message: What happened, to what, and what to do.
        retry_after: Seconds to wait at least; None leaves it to the policy.
        max_wait: Seconds to wait in all; None = until the deadline.
    """

    name = "rate-limited"
    title = "Rate limited"
    status = HTTPStatus.TOO_MANY_REQUESTS
    dead_letter = False

    def __init__(self, message: str, *, retry_after: float | None = None, max_wait: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.max_wait = max_wait

    def with_max_wait(self, max_wait: float | None) -> Self:
        """Shorten the wait to what a caller allows."""
        known = [seconds for seconds in (self.max_wait, max_wait) if seconds is not None]
        self.max_wait = min(known, default=None)
        return self


class TerminalError(HandlerError):
    """The same work never succeeds."""

    name = "failed"
    title = "Failed"


class MessageError(TerminalError):
    """A message is not what the contract says; `errors` names each field."""

    name = "invalid"
    title = "Invalid message"
    status = HTTPStatus.BAD_REQUEST

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    def fault(self) -> Fault:
        """Return the fault that the caller receives, field by field."""
        return super().fault().model_copy(update={"errors": self.errors})


class InvalidMessageError(MessageError):
    """The body or a header is invalid."""

    @classmethod
    def of(cls, error: ValidationError) -> "InvalidMessageError":
        """Convert the first of Pydantic's errors: a hostile body may have a million."""
        every = error.errors(include_url=False, include_input=False, include_context=False)
        found = [
            FieldError(field=".".join(map(str, item["loc"]))[:NAMED_CHARS] or "body", detail=item["msg"])
            for item in every[:NAMED_FIELDS]
        ]
        message = "; ".join(f"{item.field}: {item.detail}" for item in found)
        return cls(f"{message}; and {len(every) - len(found)} more" if len(every) > len(found) else message, found)


class UnknownWorkflowError(InvalidMessageError):
    """An ask names a workflow that does not exist. Anyone can send many, so none becomes a dead letter."""

    dead_letter = False


class NewerVersionError(MessageError):
    """The body's version is newer than this worker: during a rolling upgrade, another worker may know it."""


class UndecodableBatchError(InvalidMessageError):
    """A batch of records is damaged, uses a codec that Kafka does not have, or is too large when decompressed."""


class EncodingError(TerminalError):
    """A field has no representation in JSON, or a header has none in UTF-8; `errors` names it."""

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    def fault(self) -> Fault:
        """Return the fault that the caller receives, with the field."""
        return super().fault().model_copy(update={"errors": self.errors})

    @classmethod
    def of(cls, what: str, field: str, detail: str) -> "EncodingError":
        """Return the error of one field.

        Args:
            what: What is written: a message's kind.
            field: Dotted path to the field, or the header's name.
            detail: Why it cannot be written.
        """
        found = FieldError(field=field[:NAMED_CHARS], detail=detail)
        return cls(f"{what} cannot be encoded: {found.field}: {detail}", [found])


class TransportError(PoiseError):
    """The mesh did not carry a request, a reply or a record."""


class DeadlineExceededError(TransportError):
    """The deadline passed."""

    name = "deadline-exceeded"
    title = "Deadline exceeded"
    status = HTTPStatus.GATEWAY_TIMEOUT
    retryable = True


class NotAcknowledgedError(TransportError):
    """The deadline passed before the broker acknowledged the request: no leader for its partition, or no broker."""

    name = "not-taken"
    title = "Not taken"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class CallError(PoiseError):
    """A call ended with something other than its reply."""


class RunCancelledError(CallError):
    """The run, or this step of it, was cancelled."""

    name = "cancelled"
    title = "Cancelled"
    status = 499  # nginx's: "client closed request"; the standard has none


class UnavailableError(TransportError):
    """The part that could answer is missing or does not answer."""

    name = "unavailable"
    title = "Unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class MissingTopicError(UnavailableError):
    """A topic does not exist, or not yet: its readers wait until it is created."""


class RecordTooLargeError(TerminalError):
    """A record is larger than its topic allows; it was not written.

    Args:
        topic: Where it was to go.
        size: Bytes that it takes, key, headers and encoding counted; None = a batch was rejected.
        limit: Bytes that the topic takes; None = the broker rejected it without saying the limit.
    """

    def __init__(self, topic: str, size: int | None = None, limit: int | None = None) -> None:
        record = "a record" if size is None else f"a record of {size} bytes"
        most = "" if limit is None else f", which is {limit} at most"
        super().__init__(f"{record} is larger than {topic} takes{most} (max.message.bytes)")
        self.topic = topic
        self.size = size
        self.limit = limit


class WorkLimitError(TerminalError):
    """Work on a text exceeded its limit of time or memory."""


class FaultError(CallError):
    """A fault came back. It is final here: the tier that answered has done the retrying."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.title}: {fault.detail}")
        self._fault = fault

    def fault(self) -> Fault:
        """Return the fault as it came."""
        return self._fault


class NonDeterminismError(PoiseError):
    """A replayed run does not do what its journal says it did. The run fails even if its workflow catches this."""

    name = "diverged"
    title = "Workflow diverged"


class SetupError(PoiseError):
    """The process cannot start or go on; the message is one line that says what to do."""

    name = "setup"
    title = "Not set up"
