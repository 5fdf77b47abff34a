"""The metrics: name, unit, description and attributes."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from poise.telemetry.semconv.attributes import (
    ACTED,
    ACTION,
    BACKEND,
    CACHE_USE,
    COMPONENT,
    EMBED_OF,
    ERROR_TYPE,
    GEN_AI_OPERATION,
    GEN_AI_PROVIDER,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_TOKEN_TYPE,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    INTEGRATION,
    MESSAGING_DESTINATION,
    MESSAGING_GROUP,
    MESSAGING_OPERATION_NAME,
    MESSAGING_PARTITION,
    MESSAGING_SYSTEM,
    MODE,
    OUTCOME,
    POLICY,
    REASON,
    RUNG,
    SCORE,
    SERVER_ADDRESS,
    SERVER_PORT,
    STEP,
    TIER,
    TOPIC,
    VARIANT,
)

SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MODEL_SECONDS_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
UNIT_INTERVAL_BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """A metric. It is equal only to itself, so that dictionary look-ups compare no fields."""

    name: str
    unit: str
    """UCUM: `s`, `1`, `{message}`."""
    description: str
    attributes: tuple[str, ...] = ()
    """The names of its attributes, each with few values."""


class Counter(Instrument):
    """A value that only increases."""

    __slots__ = ()


class UpDownCounter(Instrument):
    """A value that increases and decreases."""

    __slots__ = ()


class Gauge(Instrument):
    """A value that is read when metrics are collected."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Instrument):
    """The distribution of a quantity."""

    buckets: tuple[float, ...] = SECONDS_BUCKETS
    """The upper bounds, in its unit."""


_MESSAGE: Final = (MESSAGING_SYSTEM, MESSAGING_OPERATION_NAME, MESSAGING_DESTINATION)

# messaging

PROCESS_DURATION: Final = Histogram(
    "messaging.process.duration", "s", "How long handling a message took.", (*_MESSAGE, MESSAGING_GROUP, ERROR_TYPE)
)
SENT_MESSAGES: Final = Counter(
    "messaging.client.sent.messages", "{message}", "Messages sent to the broker.", (*_MESSAGE, ERROR_TYPE)
)
PRODUCERS_REPLACED: Final = Counter(
    "poise.producers.replaced",
    "{producer}",
    "Producers replaced by a new one, because one of their batches failed.",
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
    "poise.call.duration", "s", "From sending a request to receiving its reply.", (MESSAGING_DESTINATION, OUTCOME)
)
REPLIES_LATE: Final = Counter(
    "poise.replies.late", "{message}", "Replies that arrived after their caller had stopped waiting."
)
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
    "poise.deadline_exceeded", "{message}", "Messages whose deadline had passed.", (MESSAGING_DESTINATION,)
)
REJECTED_OVERLOAD: Final = Counter(
    "poise.rejected",
    "{message}",
    "Messages rejected for a later retry because this worker holds its maximum of waiting messages.",
    (MESSAGING_DESTINATION,),
)
CANCELLED: Final = Counter(
    "poise.cancelled", "{message}", "Messages whose caller had cancelled them.", (MESSAGING_DESTINATION,)
)
DUPLICATES: Final = Counter(
    "poise.duplicates",
    "{message}",
    "Duplicate messages that were answered with the stored reply.",
    (MESSAGING_DESTINATION,),
)
RETRIES: Final = Counter("poise.retries", "{message}", "Messages handled again.", (MESSAGING_DESTINATION, ERROR_TYPE))
DELAYED_RETRIES: Final = Counter(
    "poise.delayed_retries",
    "{message}",
    "Messages put on a delayed-retry topic.",
    (MESSAGING_DESTINATION, ERROR_TYPE),
)
COMPONENT_AGE: Final = Gauge(
    "poise.component.age",
    "s",
    "How long ago each component of the process made progress; an idle component also counts as making progress.",
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
HTTP_BYTES: Final = Gauge("poise.gateway.bytes", "By", "Bytes of HTTP requests in progress.")
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
    "poise.backend.in_flight", "{request}", "Requests of this worker that a backend is processing.", (BACKEND,)
)
BACKEND_WAITING: Final = Gauge(
    "poise.backend.waiting", "{request}", "Requests that wait for a free slot at a backend.", (BACKEND,)
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
    "Requests to integrations by outcome: ok, stale, empty or fault.",
    (INTEGRATION, OUTCOME),
)
INTEGRATION_OPEN: Final = Gauge(
    "poise.integration.open", "1", "1 if the circuit breaker of an integration is open, else 0.", (INTEGRATION,)
)

# cache

REDIS_UP: Final = Gauge("poise.redis.up", "1", "1 if Redis answers, 0 while its circuit breaker is open.")
REDIS_ERRORS: Final = Counter("poise.redis.errors", "{command}", "Commands that Redis failed.", (ERROR_TYPE,))
CACHE_LOOKUPS: Final = Counter("poise.cache.lookups", "{ask}", "Asks that looked for a cached answer.", (CACHE_USE,))
CACHE_SAVED: Final = Counter("poise.cache.saved", "s", "Time that cached and shared answers saved the callers.")

# retrieval

INDEX_PASSAGES: Final = Gauge("poise.index.passages", "{passage}", "Passages in this worker's index.")
INDEX_LAG: Final = Gauge(
    "poise.index.lag", "{message}", "Passage records that this worker's index has not applied yet."
)
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
    "poise.steps.replayed", "{step}", "Steps of replayed runs that were found in the journal and not run again."
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
    "1 if the circuit breaker of a variant is open or half-open in this worker, else 0.",
    (VARIANT,),
)
STEP_OPEN: Final = Gauge(
    "poise.step.open", "1", "1 if this worker skips a step because its tier did not answer, else 0.", (STEP,)
)
RUN_DURATION: Final = Histogram("poise.run.duration", "s", "How long a run took.", (RUNG, VARIANT))
SCORES: Final = Histogram(
    "poise.score", "1", "Scores of answers by evaluation, 0 to 1.", (SCORE, VARIANT), buckets=UNIT_INTERVAL_BUCKETS
)
FEEDBACKS: Final = Counter(
    "poise.feedback",
    "{feedback}",
    "Feedback by outcome: joined, early (retried), late, unknown, foreign (dead letters) or skipped.",
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
    "Scores that this worker has not applied yet, by partition that it decides over.",
    (MESSAGING_PARTITION,),
)
SKIPPED_BY_DECIDER: Final = Counter(
    "poise.deciding.skipped",
    "{message}",
    "Scores and commands that were skipped because they could not be read or executed.",
    (MESSAGING_DESTINATION,),
)

# telemetry itself

SPANS_DROPPED: Final = Counter(
    "poise.spans.dropped", "{span}", "Spans dropped because `poise.spans` did not accept them, or not fast enough."
)

INSTRUMENTS: Final = MappingProxyType(
    {instrument.name: instrument for instrument in list(globals().values()) if isinstance(instrument, Instrument)}
)
"""Every metric by its name."""
