"""The table of headers: each name that Poise reads or writes, its meaning, and the pattern of its value.

The three trace headers are defined by the W3C. `docs/WIRE.md` describes all of them for authors of clients.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

CORRELATION_ID: Final = "correlation_id"
REPLY_TO: Final = "reply_to"
CONTENT_TYPE: Final = "content-type"
REPLY_PARTITION: Final = "poise-reply-partition"
KIND: Final = "poise-kind"
DEADLINE: Final = "poise-deadline"
ATTEMPT: Final = "poise-attempt"
RUN: Final = "poise-run"
STEP: Final = "poise-step"
TENANT: Final = "poise-tenant"
REGION: Final = "poise-region"
MIN_EPOCH: Final = "poise-min-epoch"
ORIGIN: Final = "poise-origin"
REDRIVES: Final = "poise-redrives"
DOC_VERSION: Final = "poise-doc-version"
STREAM_TO: Final = "poise-stream-to"
STREAM: Final = "poise-stream"
SEQ: Final = "poise-seq"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"

RETRY_OF: Final = "poise-retry-of"
RETRY_WRITTEN: Final = "poise-retry-written"
RETRY_DUE: Final = "poise-retry-due"
RETRY_COUNT: Final = "poise-retry-count"

DEAD_TOPIC: Final = "poise-dead-topic"
DEAD_POSITION: Final = "poise-dead-position"
DEAD_ERROR: Final = "poise-dead-error"
DEAD_MESSAGE: Final = "poise-dead-message"
DEAD_TRACEBACK: Final = "poise-dead-traceback"
DEAD_WORKER: Final = "poise-dead-worker"
DEAD_AT: Final = "poise-dead-at"
DEAD_CUT: Final = "poise-dead-cut"
DEAD_BATCH: Final = "poise-dead-batch"
DEAD_REDRIVEN: Final = "poise-dead-redriven"
DEAD_PURGED: Final = "poise-dead-purged"

MOVED_FROM: Final = "poise-moved-from"
MOVED_WRITTEN: Final = "poise-moved-written"
MOVED_TO: Final = "poise-moved-to"

TRACE_HEADERS: Final = (TRACEPARENT, TRACESTATE, BAGGAGE)


class HeaderDescription(NamedTuple):
    """What a header means, and the pattern of its value as text; None = any value."""

    meaning: str
    pattern: str | None = None


_NUMBER: Final = r"^[0-9]{1,18}$"
_POSITION: Final = r"^.+/[0-9]+/[0-9]+$"

MESSAGE_HEADERS: Final[Mapping[str, HeaderDescription]] = MappingProxyType(
    {
        CORRELATION_ID: HeaderDescription("Identifies the reply to its caller: any bytes, returned unchanged."),
        REPLY_TO: HeaderDescription("The topic of the reply: the caller's own, or `poise.replies`."),
        REPLY_PARTITION: HeaderDescription("The partition of `reply_to`; absent = any.", _NUMBER),
        CONTENT_TYPE: HeaderDescription("`application/json`."),
        KIND: HeaderDescription(
            "The kind of body, `name/version`; absent = the first that the channel lists.", r"^.+/[0-9]+$"
        ),
        DEADLINE: HeaderDescription("Unix milliseconds after which the answer is of no use.", _NUMBER),
        ATTEMPT: HeaderDescription("The number of the attempt, from 1.", _NUMBER),
        RUN: HeaderDescription("The run that the message belongs to; ignored on `poise.ask.*`."),
        STEP: HeaderDescription("The step of the run; ignored on `poise.ask.*`."),
        TENANT: HeaderDescription("The tenant of the message; ignored on `poise.ask.*`."),
        REGION: HeaderDescription("The region in which the message was written."),
        MIN_EPOCH: HeaderDescription("The epoch of `poise.documents` that the index must have reached (opaque)."),
        ORIGIN: HeaderDescription("`topic/partition/offset` of the first copy of the message.", _POSITION),
        REDRIVES: HeaderDescription("How often the message was redriven from a dead-letter topic.", _NUMBER),
        DOC_VERSION: HeaderDescription(
            "On `poise.passages`, `poise.versions`: the document's offset in `poise.documents`.", _NUMBER
        ),
        STREAM_TO: HeaderDescription(
            "Where the answer is streamed to, `topic/partition/correlation id`; no id = the message's own.",
            r"^[^/]+/[0-9]{1,18}(/.*)?$",
        ),
        STREAM: HeaderDescription("The attempt that an event belongs to; on a reply, the one whose text is final."),
        SEQ: HeaderDescription(
            "The number of an event in its stream, from 0; on a reply, that of the last one.", _NUMBER
        ),
        TRACEPARENT: HeaderDescription("W3C Trace Context."),
        TRACESTATE: HeaderDescription("W3C Trace Context."),
        BAGGAGE: HeaderDescription("W3C Baggage."),
    }
)
"""The headers that any message may have: those of `Envelope`."""

RETRY_HEADERS: Final[Mapping[str, HeaderDescription]] = MappingProxyType(
    {
        RETRY_OF: HeaderDescription("`topic/partition/offset` of the original record.", _POSITION),
        RETRY_WRITTEN: HeaderDescription("The timestamp of the original record, unix milliseconds.", _NUMBER),
        RETRY_DUE: HeaderDescription("When to handle the message again, unix milliseconds.", _NUMBER),
        RETRY_COUNT: HeaderDescription("How often the message was delayed.", _NUMBER),
    }
)
"""The headers added to a delayed retry."""

DEAD_LETTER_HEADERS: Final[Mapping[str, HeaderDescription]] = MappingProxyType(
    {
        DEAD_TOPIC: HeaderDescription("The original topic."),
        DEAD_POSITION: HeaderDescription("`topic/partition/offset` of the copy that failed.", _POSITION),
        DEAD_ERROR: HeaderDescription("The error's type."),
        DEAD_MESSAGE: HeaderDescription("The error's message."),
        DEAD_TRACEBACK: HeaderDescription("The end of the traceback."),
        DEAD_WORKER: HeaderDescription("The worker that wrote the dead letter."),
        DEAD_AT: HeaderDescription("When it was written, unix seconds."),
        DEAD_CUT: HeaderDescription("The length of the complete value; the record has only its beginning.", _NUMBER),
        DEAD_BATCH: HeaderDescription("`first-last`, offsets: the value is a whole undecodable batch."),
    }
)
"""The headers added to a dead letter."""

MARKER_HEADERS: Final[Mapping[str, HeaderDescription]] = MappingProxyType(
    {
        DEAD_REDRIVEN: HeaderDescription("The dead letter named by the key was redriven, to this position.", _POSITION),
        DEAD_PURGED: HeaderDescription("The dead letter named by the key was purged at this time, unix seconds."),
    }
)
"""The header of a marker record in a dead-letter topic."""

MOVED_HEADERS: Final[Mapping[str, HeaderDescription]] = MappingProxyType(
    {
        MOVED_FROM: HeaderDescription("On a copy: `topic/partition/offset` of the copied record.", _POSITION),
        MOVED_WRITTEN: HeaderDescription("On a copy: when the copied record was written, unix milliseconds.", _NUMBER),
        MOVED_TO: HeaderDescription(
            "On a tombstone that only serves compaction: `topic/partition/offset` of the deletion.", _POSITION
        ),
    }
)
"""The headers of a document or deletion that was copied to its key's partition."""
