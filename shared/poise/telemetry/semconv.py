"""The table of telemetry: the name of every span, every attribute and every metric, each once.

Names are those of OpenTelemetry's semantic conventions for messaging and GenAI where they have one, else `poise.*`.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# -- attributes: OpenTelemetry's ---------------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_CLIENT: Final = "messaging.client.id"
MESSAGING_CORRELATION: Final = "messaging.message.conversation_id"
"""The correlation id: so does OpenTelemetry name it."""
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"
KAFKA_OFFSET: Final = "messaging.kafka.offset"
KAFKA_TOMBSTONE: Final = "messaging.kafka.message.tombstone"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a kind of token that has no password

# -- attributes: Poise's -----------------------------------------------------------------------------------------------

RUN: Final = "poise.run"
"""A span without it takes its parent's."""
STEP: Final = "poise.step"
TENANT: Final = "poise.tenant"
LANE: Final = "poise.lane"
ATTEMPT: Final = "poise.attempt"
QUEUE_MS: Final = "poise.queue_ms"
"""Milliseconds that the message waited in its topic before it was handled."""
REMAINING_MS: Final = "poise.remaining_ms"
"""Milliseconds that were left until the deadline."""
OUTCOME: Final = "poise.outcome"
"""`ok`, `fault`, `retry`, `dead`, `expired` or `cancelled`."""
RUNG: Final = "poise.rung"
VARIANT: Final = "poise.variant"
REASON: Final = "poise.reason"
BACKEND: Final = "poise.backend"
INTEGRATION: Final = "poise.integration"
WAIT_MS: Final = "poise.wait_ms"
"""Milliseconds that a request waited in its worker for a free place at its backend."""
PASSAGES: Final = "poise.passages"
"""How many passages were found or made."""
MODE: Final = "poise.search.mode"
EMBED_OF: Final = "poise.embed.of"
"""`query` or `parts`."""
CACHE_USE: Final = "poise.cache.use"
"""`hits`, `stale`, `shared` or `misses`."""
SCORE: Final = "poise.score.name"
TOPIC: Final = "poise.topic"
REPLAYED: Final = "poise.replayed"
"""How many steps of a run that was begun again were found in its history."""
TIER: Final = "poise.tier"
COMPONENT: Final = "poise.part"
"""A reader, a consumer, a producer, a decider or another loop without which its process would be silent or wrong."""
POLICY: Final = "poise.policy"
ACTION: Final = "poise.decision.action"
ACTED: Final = "poise.decision.acted"
"""Whether weights or limits changed: `hold` and `false` is a variant in trouble about which nothing is done."""

# -- spans -------------------------------------------------------------------------------------------------------------

ASK: Final = "ask"
"""Gateway: from the HTTP request to the response."""
INGEST: Final = "ingest"
"""Gateway: from the HTTP request to the documents being in the log."""
ANSWER: Final = "answer"
"""Orchestration: the workflow."""
CACHE_LOOKUP: Final = "look for kept answer"
CHECK: Final = "check groundedness"
SPLIT: Final = "split document"
EMBED_QUERY: Final = "embed query"
EMBED_PARTS: Final = "embed parts"
SEARCH: Final = "search index"
WAIT_EPOCH: Final = "wait for epoch"
SCORE_RUN: Final = "score run"
FEEDBACK: Final = "feedback"
"""Gateway: from the HTTP request to the feedback being in the log."""
FIND_RUN: Final = "find run"
"""Evaluation: looking through the records for the run that feedback is about."""


_STEP_SUFFIX: Final = re.compile(r"(-[0-9a-f]{8})?(\.[0-9]+)?(?=/|$)")


def send_span(topic: str) -> str:
    """The span of publishing to a topic."""
    return f"send {topic}"


def process_span(topic: str) -> str:
    """The span of handling one message of a topic."""
    return f"process {topic}"


def call_span(step: str) -> str:
    """The span of one call, from sending its request to having its reply; without the hash and number of its step."""
    return f"call {_STEP_SUFFIX.sub('', step)}"


STEP_SPAN_PREFIX: Final = "step "
"""What the name of a workflow's own step begins with."""


def step_span(name: str) -> str:
    """The span of a workflow's own step, when it is done and not found in the history."""
    return f"{STEP_SPAN_PREFIX}{name}"


def chat_span(model: str) -> str:
    """The span of one request to a model."""
    return f"chat {model}"


def fetch_span(integration: str) -> str:
    """The span of one request to an integration."""
    return f"fetch {integration}"


# -- metrics -----------------------------------------------------------------------------------------------------------


SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MODEL_SECONDS_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
UNIT_INTERVAL_BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One metric. Equal only to itself, so that looking it up costs no comparing of fields."""

    name: str
    unit: str
    """UCUM: `s`, `1`, `{message}`."""
    description: str
    attributes: tuple[str, ...] = ()
    """What it is recorded with; each takes few values."""


class Counter(Instrument):
    """What only grows."""

    __slots__ = ()


class UpDownCounter(Instrument):
    """What grows and shrinks, by steps."""

    __slots__ = ()


class Gauge(Instrument):
    """What is read when somebody asks."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Instrument):
    """How a quantity is distributed."""

    buckets: tuple[float, ...] = SECONDS_BUCKETS
    """Upper bounds, in its unit."""


_MESSAGE: Final = (MESSAGING_SYSTEM, MESSAGING_OPERATION_NAME, MESSAGING_DESTINATION)

# messaging

PROCESS_DURATION: Final = Histogram(
    "messaging.process.duration", "s", "How long handling a message took.", (*_MESSAGE, MESSAGING_GROUP, ERROR_TYPE)
)
SENT_MESSAGES: Final = Counter(
    "messaging.client.sent.messages", "{message}", "Messages sent to the broker.", (*_MESSAGE, ERROR_TYPE)
)
PRODUCERS_REPLACED: Final = Counter(
    "poise.producers.renewed",
    "{producer}",
    "Producers replaced by a new one, because a batch failed that they had numbered.",
    (ERROR_TYPE,),
)
CONSUMED_MESSAGES: Final = Counter(
    "messaging.client.consumed.messages",
    "{message}",
    "Messages handed to the process.",
    (*_MESSAGE, MESSAGING_GROUP, ERROR_TYPE),
)
QUEUE_WAIT: Final = Histogram(
    "poise.queue.wait", "s", "How long a message waited in its topic before it was handled.", (MESSAGING_DESTINATION,)
)
IN_FLIGHT: Final = UpDownCounter(
    "poise.in_flight",
    "{message}",
    "Messages being handled now, those included whose handlers wait and hold no slot.",
    (MESSAGING_DESTINATION,),
)
ASSIGNED: Final = Gauge("poise.assigned", "{partition}", "Partitions this worker holds.", (MESSAGING_DESTINATION,))
CALLS: Final = Counter("poise.calls", "{call}", "Calls made.", (MESSAGING_DESTINATION, OUTCOME))
CALL_DURATION: Final = Histogram(
    "poise.call.duration", "s", "From sending a request to having its reply.", (MESSAGING_DESTINATION, OUTCOME)
)
REPLIES_LATE: Final = Counter("poise.replies.late", "{message}", "Replies that came after their caller had given up.")
REPLIES_ORPHANED: Final = Counter(
    "poise.replies.orphaned", "{message}", "Replies to this instance that no call of it waits for."
)
REPLIES_MISMATCHED: Final = Counter(
    "poise.replies.mismatched",
    "{message}",
    "Replies and stream events under a waiting call's id that name another run or step: ignored.",
)
DEAD_LETTERS: Final = Counter(
    "poise.dead_letters", "{message}", "Messages that could not be handled.", (TIER, TOPIC, ERROR_TYPE)
)
DEADLINE_EXCEEDED: Final = Counter(
    "poise.deadline_exceeded", "{message}", "Messages that nobody wanted any more.", (MESSAGING_DESTINATION,)
)
REJECTED_BUSY: Final = Counter(
    "poise.turned_away",
    "{message}",
    "Messages that were told to come again later: as many as may be wait in this worker.",
    (MESSAGING_DESTINATION,),
)
CANCELLED: Final = Counter(
    "poise.cancelled", "{message}", "Messages whose caller had cancelled them.", (MESSAGING_DESTINATION,)
)
DUPLICATES: Final = Counter(
    "poise.duplicates",
    "{message}",
    "Messages answered with what another copy of them was answered.",
    (MESSAGING_DESTINATION,),
)
RETRIES: Final = Counter("poise.retries", "{message}", "Messages handled again.", (MESSAGING_DESTINATION, ERROR_TYPE))
POSTPONED: Final = Counter(
    "poise.postponed",
    "{message}",
    "Messages put on a delayed-retry topic.",
    (MESSAGING_DESTINATION, ERROR_TYPE),
)
COMPONENT_AGE: Final = Gauge(
    "poise.part.age",
    "s",
    "How long ago each part of the process made progress; a part that has nothing to do makes it too.",
    (COMPONENT,),
)
RECORDS_SKIPPED: Final = Counter(
    "poise.reader.skipped",
    "{message}",
    "Records of a topic that is followed (cancels, policies, versions, passages, replies) that could not be applied.",
    (MESSAGING_DESTINATION,),
)

# gateway

HTTP_DURATION: Final = Histogram(
    "http.server.request.duration",
    "s",
    "From the HTTP request to the response.",
    (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS),
)
HTTP_REFUSED: Final = Counter(
    "poise.gateway.refused",
    "{request}",
    "Connections and requests that were refused or cut by a limit of the gateway.",
    (REASON,),
)
HTTP_CONNECTIONS: Final = Gauge("poise.gateway.connections", "{connection}", "Open HTTP connections.")
HTTP_BYTES: Final = Gauge("poise.gateway.bytes", "By", "Bytes of HTTP requests under way.")
ASKS_PENDING: Final = Gauge("poise.gateway.pending", "{ask}", "Asks that wait for their answer.")

# inference

GEN_AI_DURATION: Final = Histogram(
    "gen_ai.client.operation.duration",
    "s",
    "How long a request to a model took.",
    (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL, BACKEND, ERROR_TYPE),
    buckets=MODEL_SECONDS_BUCKETS,
)
GEN_AI_TOKENS: Final = Histogram(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens a request read (input) and wrote (output).",
    (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL, BACKEND, GEN_AI_TOKEN_TYPE),
    buckets=TOKEN_BUCKETS,
)
BACKEND_IN_FLIGHT: Final = Gauge(
    "poise.backend.in_flight", "{request}", "Requests that a backend is at work on for this worker.", (BACKEND,)
)
BACKEND_WAITING: Final = Gauge(
    "poise.backend.waiting", "{request}", "Requests that wait for a free place at a backend.", (BACKEND,)
)
BACKEND_UP: Final = Gauge(
    "poise.backend.up", "1", "1 if a backend answered its last request, 0 if it failed it.", (BACKEND,)
)

# integration

HTTP_CLIENT_DURATION: Final = Histogram(
    "http.client.request.duration",
    "s",
    "How long a request to an integration took.",
    (HTTP_METHOD, SERVER_ADDRESS, SERVER_PORT, INTEGRATION, ERROR_TYPE),
)
FETCHES: Final = Counter(
    "poise.fetches",
    "{fetch}",
    "What came of asking integrations: ok, stale, empty or fault.",
    (INTEGRATION, OUTCOME),
)
INTEGRATION_OPEN: Final = Gauge(
    "poise.integration.resting", "1", "1 if an integration kept failing and is left alone, 0 if not.", (INTEGRATION,)
)

# cache

CACHE_UP: Final = Gauge("poise.cache.up", "1", "1 if the cache answers, 0 if it was left alone after a failure.")
CACHE_ERRORS: Final = Counter("poise.cache.errors", "{command}", "Commands that the cache failed.", (ERROR_TYPE,))
CACHE_LOOKUPS: Final = Counter("poise.cache.looks", "{ask}", "Asks that looked for a kept answer.", (CACHE_USE,))
CACHE_SAVED: Final = Counter("poise.cache.saved", "s", "Time that kept and shared answers saved those who asked.")

# retrieval

INDEX_PASSAGES: Final = Gauge("poise.index.passages", "{passage}", "Passages in this worker's index.")
INDEX_LAG: Final = Gauge("poise.index.lag", "{message}", "Passage records that this worker's index has yet to apply.")
DOCUMENTS_EMBEDDED: Final = Counter(
    "poise.documents.embedded", "{document}", "Documents split, embedded and published as passages."
)
DOCUMENTS_MOVED: Final = Counter(
    "poise.documents.moved", "{document}", "Documents and deletions copied to the partition that their key belongs in."
)
SEARCH_DURATION: Final = Histogram("poise.search.duration", "s", "How long searching the index took.", (MODE,))
EMBED_DURATION: Final = Histogram("poise.embed.duration", "s", "How long embedding took.", (EMBED_OF,))

# orchestration and evaluation

STEPS_REPLAYED: Final = Counter(
    "poise.steps.replayed", "{step}", "Steps of runs begun again that were found in their history, not done again."
)
ANSWERS: Final = Counter("poise.answers", "{answer}", "Answers given.", (RUNG, VARIANT))
FAILOVERS: Final = Counter(
    "poise.variant.failovers",
    "{failover}",
    "Times that another variant was asked; of the one before: its name, and the fault's type, `check` or `open`.",
    (VARIANT, ERROR_TYPE),
)
VARIANT_OPEN: Final = Gauge(
    "poise.variant.open",
    "1",
    "1 if this worker leaves a variant alone, or probes it, after failures; else 0.",
    (VARIANT,),
)
STEP_OPEN: Final = Gauge(
    "poise.step.resting", "1", "1 if this worker leaves a step out, for its tier kept silent lately; else 0.", (STEP,)
)
RUN_DURATION: Final = Histogram("poise.run.duration", "s", "How long a run took.", (RUNG, VARIANT))
SCORES: Final = Histogram(
    "poise.score", "1", "What evaluation thinks of answers, 0 to 1.", (SCORE, VARIANT), buckets=UNIT_INTERVAL_BUCKETS
)
FEEDBACKS: Final = Counter(
    "poise.feedback",
    "{feedback}",
    "Feedback by what came of it: joined, early (tried again), late, unknown, foreign (dead letters) or passed over.",
    (OUTCOME,),
)
STEP_LATENCY: Final = Histogram("poise.step.duration", "s", "How long each step of a run took.", (STEP, VARIANT))

POLICY_WEIGHT: Final = Gauge(
    "poise.policy.weight",
    "1",
    "The share of the draws that a variant has, from the worker that decides over its policy.",
    (POLICY, VARIANT),
)
DECISIONS: Final = Counter("poise.decisions", "{decision}", "Decisions over policies.", (POLICY, ACTION, ACTED))
DECIDING_LAG: Final = Gauge(
    "poise.deciding.lag",
    "{message}",
    "Scores that this worker has yet to take in, by partition that it decides over.",
    (MESSAGING_PARTITION,),
)
SKIPPED_BY_DECIDER: Final = Counter(
    "poise.deciding.passed_over",
    "{message}",
    "Scores and commands that could not be read, or not be done, and were passed over.",
    (MESSAGING_DESTINATION,),
)

# telemetry itself

SPANS_DROPPED: Final = Counter(
    "poise.spans.dropped", "{span}", "Spans dropped because `poise.spans` did not take them, or not fast enough."
)

INSTRUMENTS: Final = MappingProxyType(
    {instrument.name: instrument for instrument in list(globals().values()) if isinstance(instrument, Instrument)}
)
"""Every metric by its name."""
