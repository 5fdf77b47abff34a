"""The table of topics: everything that is said, where, in what order and for how long it is kept."""

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from poise.contracts.ask import Answer, Ask
from poise.contracts.cancel import Cancel
from poise.contracts.document import Deletion, Document, DocumentVersion, Manifest, Moved, Part
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
"""A traffic class: whether somebody waits, or work is done in bulk."""

MIB: Final = 1024 * 1024

MAX_RECORD_BYTES: Final = 3 * MIB
"""Bytes: a dead letter is the message as it was, however large, and why."""

PREFIX: Final = "poise."
_TIER_TOPIC: Final = re.compile(rf"{re.escape(PREFIX)}([a-z0-9-]+)\.(?:requests|retry|dead)(?:\..+)?")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an answer is wanted, seconds after the record's timestamp."""

    default: float
    """For a message that carries no deadline."""
    longest: float
    """A later deadline is brought forward to this."""


INTERACTIVE: Final = Deadlines(default=30.0, longest=300.0)
BATCH: Final = Deadlines(default=600.0, longest=6 * HOUR)
NO_DEADLINE: Final = Deadlines(default=math.inf, longest=math.inf)
"""Work that stays wanted however long it has waited."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of Poise's."""

    name: str
    accepts: tuple[type[Message], ...]
    """The bodies it carries; the first is meant where `poise-kind` is absent."""
    tier: str | None = None
    """The tier that handles its messages, and whose dead-letter topic takes those that cannot be handled."""
    key: str = "none"
    """What the key is, in words."""
    partitions: int = 6
    keep: float | None = DAY
    """Seconds that records are kept; None = for ever."""
    keep_bytes: int | None = None
    """Bytes of a partition beyond which the oldest records go before their time; None = no bound."""
    compacted: bool = False
    ordered: bool = False
    """Messages of one key are handled one after another."""
    public: bool = False
    """Anyone may write: unknown fields are refused, and headers that claim an identity are ignored."""
    deadlines: Deadlines = INTERACTIVE
    max_bytes: int = MIB
    """The largest record that the broker takes."""
    segment: int | None = None
    """Bytes after which the log begins a new file: the last one is not compacted. None = Kafka's usual, a gigabyte."""

    @property
    def lane(self) -> Lane:
        """The traffic class of its messages."""
        return "batch" if self.name.endswith(".batch") else "interactive"


def dead_letter_topic_name(tier: str) -> str:
    """The name of a tier's dead-letter topic."""
    return f"{PREFIX}{tier}.dead"


RETRY_DELAYS: Final = (10.0, 60.0, 600.0)
"""Seconds that a message which is to be handled again later is put off, the first time, the second and the third."""


def retry_topic_name(tier: str, delay: float) -> str:
    """The name of the topic on which a tier's messages wait for `delay` seconds to be handled again."""
    minutes = delay / 60
    return f"{PREFIX}{tier}.retry.{f'{minutes:g}m' if minutes >= 1 else f'{delay:g}s'}"


def retry_topic(tier: str, delay: float) -> Topic:
    """The topic on which a tier's messages wait for `delay` seconds."""
    return Topic(
        retry_topic_name(tier, delay),
        (Message,),
        key="as the original",
        partitions=3,
        keep=7 * DAY,
        deadlines=NO_DEADLINE,
        max_bytes=MAX_RECORD_BYTES,
    )


def dead_letter_topic(tier: str) -> Topic:
    """A tier's dead-letter topic."""
    return Topic(
        dead_letter_topic_name(tier),
        (Message,),
        key="as the original",
        partitions=1,
        keep=14 * DAY,
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
    keep=HOUR,
)
DOCUMENTS: Final = Topic(
    "poise.documents",
    (Document, Deletion),
    "retrieval",
    key="document id",
    keep=FOREVER,
    compacted=True,
    ordered=True,
    public=True,
    deadlines=NO_DEADLINE,
)
PASSAGES: Final = Topic(
    "poise.passages", (Part, Manifest, Moved, Deletion), key="<document id>#<part>", keep=FOREVER, compacted=True
)
VERSIONS: Final = Topic("poise.versions", (DocumentVersion,), key="document id", keep=FOREVER, compacted=True)
"""Small: every orchestration worker reads all of it. A record has its document's partition number."""
RECORDS: Final = Topic("poise.records", (RunRecord,), "evaluation", key="run", keep=7 * DAY, deadlines=NO_DEADLINE)
SCORES: Final = Topic("poise.scores", (Score,), key="policy", keep=7 * DAY)
FEEDBACK: Final = Topic(
    "poise.feedback",
    (Feedback,),
    "evaluation",
    key="run",
    keep=30 * DAY,
    keep_bytes=1024 * MIB,
    public=True,
    deadlines=NO_DEADLINE,
    segment=64 * MIB,
)
"""Kept for longer than the runs that it is about: what somebody took the time to write is worth fetching later."""
POLICY: Final = Topic("poise.policy", (Policy,), key="policy", keep=FOREVER, compacted=True)
POLICY_STATE: Final = Topic(
    "poise.policy.state",
    (PolicyState,),
    key="policy",
    keep=FOREVER,
    compacted=True,
    max_bytes=MAX_RECORD_BYTES,
    segment=16 * MIB,
)
"""A policy's partition has the same number here, in `poise.policy.commands` and in `poise.scores`."""
DECISIONS: Final = Topic("poise.decisions", (Decision,), key="policy", keep=FOREVER)
COMMANDS: Final = Topic("poise.policy.commands", (PolicyCommand,), key="policy", keep=30 * DAY)
CANCEL: Final = Topic("poise.cancel", (Cancel,), key="run", partitions=1, keep=BATCH.longest + HOUR)
"""Every worker reads all of it, from one longest deadline back: hence one partition."""
SPANS: Final = Topic("poise.spans", (SpanRecord,), key="run", keep=DAY)

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
"""Where each request goes, by lane."""


def topics_of_tier(tier: str) -> tuple[Topic, ...]:
    """The topics that a tier handles."""
    return tuple(topic for topic in CATALOGUE.values() if topic.tier == tier)


def dead_letter_tier(topic: str) -> str:
    """Whose dead-letter topic takes what cannot be handled, or not even decoded, of a topic.

    That of the tier that handles it, which custom tiers and delayed retries have in their names. What no tier handles,
    such as `poise.cancel` or `poise.passages`, goes to orchestration's.
    """
    if (known := CATALOGUE.get(topic)) is not None and known.tier is not None:
        return known.tier
    named = _TIER_TOPIC.fullmatch(topic)
    return named[1] if named else "orchestration"
