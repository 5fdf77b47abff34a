"""The errors, each of which says what happened, to what, and what to do.

    PoiseError
    ├── RetryableError        a handler raises it: the same work may succeed later
    │   └── RateLimitedError        somebody else's server wants fewer requests; whoever waits may turn elsewhere
    ├── TerminalError         a handler raises it: it never will
    │   ├── InvalidMessageError     the body or a header is not what the contract says
    │   │   ├── NewerVersionError   a newer worker will understand it
    │   │   └── UndecodableBatchError   a batch of records is damaged, or not in a form that is read
    │   ├── EncodingError           a message has a field that JSON has no form for
    │   ├── DeadlineExceededError   nobody wants the answer any more
    │   │   └── NotTakenError       and the broker had not taken the request by then
    │   ├── WithdrawnError          whoever wanted the answer has cancelled it
    │   ├── UnavailableError        the part that could have answered is missing or does not answer
    │   ├── RecordTooLargeError     a record is larger than its topic takes
    │   ├── WorkLimitError          work on a text took more time or memory than it may
    │   ├── DivergedError           a run that was begun again does something else than it did
    │   └── FaultError              a call came back with a fault: who answered it has done the retrying
    └── SetupError            the process cannot start or go on: settings, broker, files; one line for a person
        └── MissingTopicError       a topic is not there; what reads it for as long as it runs waits for it

Anything else that a handler raises is a bug: tried again a bounded number of times, then a dead letter.
"""

import math
from collections.abc import Iterable
from http import HTTPStatus
from typing import ClassVar, Final, Self

from pydantic import ValidationError

from poise.contracts.fault import Fault, FieldError
from poise.text.public_text import without_addresses

NAMED_FIELDS: Final = 20
"""How many wrong fields a fault names."""
HIGHEST_STATUS: Final = 999
LONGEST_WAIT: Final = 30 * 86_400.0
"""Seconds after which anything may be tried again."""
NAMED_CHARS: Final = 200
"""How much of a field's name it gives."""


class PoiseError(Exception):
    """Anything that Poise raises on purpose. `name` and `status` are what a fault made of it says."""

    name: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable: ClassVar[bool] = False
    kept: ClassVar[bool] = True
    """Whether a message that ends so is a dead letter even though somebody waits, who is told. Where nothing can be
    learnt from it, and nobody will want its answer later, it is not."""

    def fault(self) -> Fault:
        """This error as the caller is told of it: without addresses, which are for logs."""
        return Fault(
            type=f"urn:poise:{self.name}",
            title=self.title,
            status=min(max(0, self.status), HIGHEST_STATUS),
            detail=without_addresses(str(self)),
            retryable=self.retryable,
        )


class RetryableError(PoiseError):
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
        # Whoever computes it from somebody else's clock or header may come to a number that is none.
        if retry_after is not None:
            retry_after = None if math.isnan(retry_after) else min(max(0.0, retry_after), LONGEST_WAIT)
        self.retry_after = retry_after

    def fault(self) -> Fault:
        """This error as the caller is told of it, with how long to wait."""
        return super().fault().model_copy(update={"retry_after": self.retry_after})


class RateLimitedError(RetryableError):
    """A server that is not ours wants fewer requests.

    Nothing is wrong with this one, so it is never a dead letter while somebody waits for the answer: it is tried again
    as long as patience lasts, then whoever waits is told, and decides.

    Args:
        message: What happened, to what, and what to do.
        retry_after: Seconds to wait at least; None leaves it to the policy.
        patience: Seconds that may be waited for it in all; None = until the deadline.
    """

    name = "rate-limited"
    title = "Rate limited"
    status = HTTPStatus.TOO_MANY_REQUESTS
    kept = False

    def __init__(self, message: str, *, retry_after: float | None = None, patience: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.patience = patience

    def within(self, patience: float | None) -> Self:
        """The same error, for a caller that has this patience at most."""
        known = [seconds for seconds in (self.patience, patience) if seconds is not None]
        self.patience = min(known, default=None)
        return self


class TerminalError(PoiseError):
    """The same work will never succeed."""

    name = "failed"
    title = "Failed"


class InvalidMessageError(TerminalError):
    """The body or a header is not what the contract says; `errors` names each field."""

    name = "invalid"
    title = "Invalid message"
    status = HTTPStatus.BAD_REQUEST

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    def fault(self) -> Fault:
        """This error as the caller is told of it, field by field."""
        return super().fault().model_copy(update={"errors": self.errors})

    @classmethod
    def of(cls, error: ValidationError) -> "InvalidMessageError":
        """Pydantic's findings in Poise's form: the first of them, for hostile bodies have a million."""
        every = error.errors(include_url=False, include_input=False, include_context=False)
        found = [
            FieldError(field=".".join(map(str, item["loc"]))[:NAMED_CHARS] or "body", detail=item["msg"])
            for item in every[:NAMED_FIELDS]
        ]
        message = "; ".join(f"{item.field}: {item.detail}" for item in found)
        return cls(f"{message}; and {len(every) - len(found)} more" if len(every) > len(found) else message, found)


class UnknownWorkflowError(InvalidMessageError):
    """An ask names a workflow that there is not. Anyone can send many such, and nothing is learnt from keeping them."""

    kept = False


class NewerVersionError(InvalidMessageError):
    """The body is of a newer version than this worker knows: during a rolling upgrade another one may."""


class UndecodableBatchError(InvalidMessageError):
    """A batch of records is damaged, compressed by a codec that Kafka has not, or too large once it is decompressed."""


class EncodingError(TerminalError):
    """What is to be written has a field without a form in JSON, or a header without one in UTF-8; `errors` names it."""

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    def fault(self) -> Fault:
        """This error as the caller is told of it, with the field."""
        return super().fault().model_copy(update={"errors": self.errors})

    @classmethod
    def of(cls, what: str, field: str, detail: str) -> "EncodingError":
        """The error of one field.

        Args:
            what: What is written: a message's kind.
            field: Dotted path to the field, or the header's name.
            detail: Why it cannot be written.
        """
        found = FieldError(field=field[:NAMED_CHARS], detail=detail)
        return cls(f"{what} cannot be encoded: {found.field}: {detail}", [found])


class DeadlineExceededError(TerminalError):
    """Nobody wants the answer any more."""

    name = "deadline-exceeded"
    title = "Deadline exceeded"
    status = HTTPStatus.GATEWAY_TIMEOUT
    retryable = True


class NotTakenError(DeadlineExceededError):
    """The deadline passed while the request was still to be written: its partition has no leader, or Kafka is gone."""

    name = "not-taken"
    title = "Not taken"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class RunCancelledError(TerminalError):
    """Whoever wanted the answer has cancelled it."""

    name = "cancelled"
    title = "Cancelled"
    status = 499  # nginx's: "client closed request"; the standard has none


class UnavailableError(TerminalError):
    """The part that could have answered is missing or does not answer."""

    name = "unavailable"
    title = "Unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class RecordTooLargeError(TerminalError):
    """A record is larger than its topic takes; nothing of it was sent.

    Args:
        topic: Where it was to go.
        size: Bytes that it takes, key, headers and encoding counted.
        limit: Bytes that the topic takes.
    """

    def __init__(self, topic: str, size: int, limit: int) -> None:
        takes = f"{topic} takes, which is {limit} at most (max.message.bytes)"
        super().__init__(f"a record of {size} bytes is larger than {takes}")
        self.topic = topic
        self.size = size
        self.limit = limit


class WorkLimitError(TerminalError):
    """Work on a text took more time or memory than it may."""


class NonDeterminismError(TerminalError):
    """A run that was begun again does something else than its history says it did."""

    name = "diverged"
    title = "Workflow diverged"


class FaultError(TerminalError):
    """A call came back with a fault. It is final here: the tier that answered has done the retrying."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.title}: {fault.detail}")
        self._fault = fault

    def fault(self) -> Fault:
        """The fault, as it came."""
        return self._fault


class SetupError(PoiseError):
    """The process cannot start or go on; the message is one line that says what to do."""

    name = "setup"
    title = "Not set up"


class MissingTopicError(SetupError):
    """A topic is not there."""
