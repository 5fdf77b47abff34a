"""The table of topics: their bodies, keys, order and retention."""

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from poise.contracts.ask import Answer, Ask
from poise.contracts.cancel import Cancel
from poise.contracts.document import CopyNote, Deletion, Document, DocumentVersion, Manifest, PassageRecord
from poise.contracts.fault import Fault
from poise.contracts.feedback import Feedback
from poise.contracts.fetch import Fetch, Fetched
from poise.contracts.generate import Completion, Generate
from poise.contracts.message import Message
from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicyState
from poise.contracts.record import RunRecord, Score
from poise.contracts.retrieve import Passages, Retrieve
from poise.contracts.span import SpanRecord
from poise.contracts.stream import Delta, End, Reset

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
FOREVER: Final = None

Lane = Literal["interactive", "batch"]
"""A traffic class: requests with a waiting caller, or bulk work."""

MIB: Final = 1024 * 1024

MAX_RECORD_BYTES: Final = 3 * MIB
"""The largest record, for dead letters: they consist of the whole message and the reason."""

PREFIX: Final = "poise."
_TIER_TOPIC: Final = re.compile(rf"{re.escape(PREFIX)}([a-z0-9-]+)\.(?:requests|retry|dead)(?:\..+)?")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an answer is of use, in seconds after the record's timestamp."""

    default: float
    """For a message without a deadline."""
    longest: float
    """The maximum; a later deadline is reduced to it."""


INTERACTIVE: Final = Deadlines(default=30.0, longest=300.0)
BATCH: Final = Deadlines(default=600.0, longest=6 * HOUR)
NO_DEADLINE: Final = Deadlines(default=math.inf, longest=math.inf)
"""For work that must be done no matter how long it has waited."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of Poise."""

    name: str
    accepts: tuple[type[Message], ...]
    """The bodies of its messages; the first is the default without `poise-kind`."""
    tier: str | None = None
    """The tier that handles its messages, and whose dead-letter topic gets those that it cannot handle."""
    key: str = "none"
    """A description of the key."""
    partitions: int = 6
    retention: float | None = DAY
    """Retention in seconds; None = forever."""
    retention_bytes: int | None = None
    """Retention in bytes of a partition; the oldest records beyond it are deleted early. None = no bound."""
    compacted: bool = False
    ordered: bool = False
    """Whether messages of one key are handled one after another."""
    public: bool = False
    """Whether any client may write to it: unknown fields are refused, and identity headers are ignored."""
    deadlines: Deadlines = INTERACTIVE
    max_bytes: int = MIB
    """Bytes of the largest record that the broker accepts."""
    segment: int | None = None
    """Bytes of a log segment; the active segment is not compacted. None = Kafka's default, 1 GiB."""

    @property
    def lane(self) -> Lane:
        """The lane of its messages."""
        return "batch" if self.name.endswith(".batch") else "interactive"


def dead_letter_topic_name(tier: str) -> str:
    """Return the name of a tier's dead-letter topic."""
    return f"{PREFIX}{tier}.dead"


RETRY_DELAYS: Final = (10.0, 60.0, 600.0)
"""Seconds of the first, second and third delay of a message that is retried later."""


def retry_topic_name(tier: str, delay: float) -> str:
    """Return the name of the topic in which a tier's messages wait `delay` seconds for a retry."""
    minutes = delay / 60
    return f"{PREFIX}{tier}.retry.{f'{minutes:g}m' if minutes >= 1 else f'{delay:g}s'}"


def retry_topic(tier: str, delay: float) -> Topic:
    """Return the topic in which a tier's messages wait `delay` seconds for a retry."""
    return Topic(
        retry_topic_name(tier, delay),
        (Message,),
        key="as the original",
        partitions=3,
        retention=7 * DAY,
        deadlines=NO_DEADLINE,
        max_bytes=MAX_RECORD_BYTES,
    )


def dead_letter_topic(tier: str) -> Topic:
    """Return a tier's dead-letter topic."""
    return Topic(
        dead_letter_topic_name(tier),
        (Message,),
        key="as the original",
        partitions=1,
        retention=14 * DAY,
        max_bytes=MAX_RECORD_BYTES,
    )


ASK_INTERACTIVE: Final = Topic(
    "poise.ask.interactive", (Ask,), "orchestration", key="conversation, else none", ordered=True, public=True
)
ASK_BATCH: Final = Topic(
    "poise.ask.batch",
    (Ask,),
    "orchestration",
    key="conversation, else none",
    ordered=True,
    public=True,
    deadlines=BATCH,
)
RUNS_INTERACTIVE: Final = Topic(
    "poise.runs.interactive", (Ask,), "orchestration", key="conversation, else run", ordered=True
)
RUNS_BATCH: Final = Topic(
    "poise.runs.batch", (Ask,), "orchestration", key="conversation, else run", ordered=True, deadlines=BATCH
)
RETRIEVAL_INTERACTIVE: Final = Topic("poise.retrieval.requests.interactive", (Retrieve,), "retrieval", key="run/step")
RETRIEVAL_BATCH: Final = Topic(
    "poise.retrieval.requests.batch", (Retrieve,), "retrieval", key="run/step", deadlines=BATCH
)
INFERENCE_INTERACTIVE: Final = Topic("poise.inference.requests.interactive", (Generate,), "inference", key="run/step")
INFERENCE_BATCH: Final = Topic(
    "poise.inference.requests.batch", (Generate,), "inference", key="run/step", deadlines=BATCH
)
INTEGRATION_INTERACTIVE: Final = Topic(
    "poise.integration.requests.interactive", (Fetch,), "integration", key="run/step"
)
INTEGRATION_BATCH: Final = Topic(
    "poise.integration.requests.batch", (Fetch,), "integration", key="run/step", deadlines=BATCH
)
REPLIES: Final = Topic(
    "poise.replies",
    (Answer, Passages, Completion, Fetched, Fault, Delta, Reset, End),
    key="explicit partition",
    partitions=12,
    retention=HOUR,
)
DOCUMENTS: Final = Topic(
    "poise.documents",
    (Document, Deletion),
    "retrieval",
    key="document id",
    retention=FOREVER,
    compacted=True,
    ordered=True,
    public=True,
    deadlines=NO_DEADLINE,
)
PASSAGES: Final = Topic(
    "poise.passages",
    (PassageRecord, Manifest, CopyNote, Deletion),
    key="<document id>#<part>",
    retention=FOREVER,
    compacted=True,
)
VERSIONS: Final = Topic("poise.versions", (DocumentVersion,), key="document id", retention=FOREVER, compacted=True)
"""Small, because every orchestration worker reads all of it. A record is in the partition of its document's number."""
RECORDS: Final = Topic("poise.records", (RunRecord,), "evaluation", key="run", retention=7 * DAY, deadlines=NO_DEADLINE)
SCORES: Final = Topic("poise.scores", (Score,), key="policy", retention=7 * DAY)
FEEDBACK: Final = Topic(
    "poise.feedback",
    (Feedback,),
    "evaluation",
    key="run",
    retention=30 * DAY,
    retention_bytes=1024 * MIB,
    public=True,
    deadlines=NO_DEADLINE,
    segment=64 * MIB,
)
"""Retained for longer than the runs, because what a person took the time to write is of use later."""
POLICY: Final = Topic("poise.policy", (Policy,), key="policy", retention=FOREVER, compacted=True)
POLICY_STATE: Final = Topic(
    "poise.policy.state",
    (PolicyState,),
    key="policy",
    retention=FOREVER,
    compacted=True,
    max_bytes=MAX_RECORD_BYTES,
    segment=16 * MIB,
)
"""A policy's partition has the same number here, in `poise.policy.commands` and in `poise.scores`."""
DECISIONS: Final = Topic("poise.decisions", (Decision,), key="policy", retention=FOREVER)
COMMANDS: Final = Topic("poise.policy.commands", (PolicyCommand,), key="policy", retention=30 * DAY)
CANCEL: Final = Topic("poise.cancel", (Cancel,), key="run", partitions=1, retention=BATCH.longest + HOUR)
"""Every worker reads all of it, from the longest deadline ago; so it has one partition."""
SPANS: Final = Topic("poise.spans", (SpanRecord,), key="run", retention=DAY)

TIERS: Final = ("orchestration", "retrieval", "inference", "integration", "evaluation")
"""The tiers that handle messages."""

CATALOGUE: Final = MappingProxyType(
    {
        topic.name: topic
        for topic in (
            ASK_INTERACTIVE,
            ASK_BATCH,
            RUNS_INTERACTIVE,
            RUNS_BATCH,
            RETRIEVAL_INTERACTIVE,
            RETRIEVAL_BATCH,
            INFERENCE_INTERACTIVE,
            INFERENCE_BATCH,
            INTEGRATION_INTERACTIVE,
            INTEGRATION_BATCH,
            REPLIES,
            DOCUMENTS,
            PASSAGES,
            VERSIONS,
            RECORDS,
            SCORES,
            FEEDBACK,
            POLICY,
            POLICY_STATE,
            DECISIONS,
            COMMANDS,
            CANCEL,
            SPANS,
            *(retry_topic(tier, delay) for tier in TIERS for delay in RETRY_DELAYS),
            *(dead_letter_topic(tier) for tier in TIERS),
        )
    }
)

REQUESTS: Final = MappingProxyType(
    {
        Ask: MappingProxyType({"interactive": RUNS_INTERACTIVE, "batch": RUNS_BATCH}),
        Retrieve: MappingProxyType({"interactive": RETRIEVAL_INTERACTIVE, "batch": RETRIEVAL_BATCH}),
        Generate: MappingProxyType({"interactive": INFERENCE_INTERACTIVE, "batch": INFERENCE_BATCH}),
        Fetch: MappingProxyType({"interactive": INTEGRATION_INTERACTIVE, "batch": INTEGRATION_BATCH}),
    }
)
"""The topic of each request, by lane."""


def topics_of_tier(tier: str) -> tuple[Topic, ...]:
    """Return the topics that a tier handles."""
    return tuple(topic for topic in CATALOGUE.values() if topic.tier == tier)


def dead_letter_tier(topic: str) -> str:
    """Return the tier whose dead-letter topic gets the messages of a topic that cannot be handled or decoded.

    It is the tier that handles the topic; the topics of custom tiers and delayed retries contain its name. For topics
    that no tier handles, such as `poise.cancel` or `poise.passages`, it is orchestration.
    """
    if (known := CATALOGUE.get(topic)) is not None and known.tier is not None:
        return known.tier
    named = _TIER_TOPIC.fullmatch(topic)
    return named[1] if named else "orchestration"
