"""Malformed messages generated from a seed, and an independent check that the contracts reject them."""

import itertools
import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from aiokafka.partitioner import murmur2
from pydantic import TypeAdapter, ValidationError

from poise.contracts import Deletion, Envelope, EnvelopeError
from poise.contracts.document import DocumentId
from poise.contracts.topics import CATALOGUE, DOCUMENTS, NO_DEADLINE, PREFIX, Topic
from poise.errors import InvalidMessageError
from poise.rpc.deadlines import resolve_deadline

Headers = list[tuple[str, bytes | None]]

_DOCUMENT_ID: Final = TypeAdapter(DocumentId)

TARGETS: Final = tuple(topic for topic in CATALOGUE.values() if topic.tier is not None)
"""Every topic that a tier reads."""
LARGEST: Final = 1_040_000
"""Bytes of the largest body that fits the topics' limit with its headers."""

_GOOD: Final[Mapping[str, dict[str, Any]]] = {
    "ask/1": {"question": "x"},
    "generate/1": {"messages": [{"role": "user", "content": "x"}]},
    "retrieve/1": {"query": "x", "limit": 3},
    "fetch/1": {"integration": "model"},
    "document/1": {"text": "x", "source": "y"},
    "run-record/1": {
        "run_id": "r",
        "workflow": "w",
        "tenant": "t",
        "question": "q",
        "started": 1.0,
        "finished": 2.0,
    },
    "feedback/1": {"run_id": "01a20cfa-40a1-77dd-97d6-7967402ebec2", "thumb": "up"},
}
_NEEDED: Final = {
    "ask/1": "question",
    "generate/1": "messages",
    "retrieve/1": "query",
    "fetch/1": "integration",
    "document/1": "text",
    "run-record/1": "started",
    "feedback/1": "run_id",
}
_NUMBERS: Final = ("poise-reply-partition", "poise-deadline", "poise-attempt", "poise-redrives", "poise-doc-version")
_TEXTS: Final = (
    "reply_to",
    "content-type",
    "poise-run",
    "poise-step",
    "poise-tenant",
    "poise-region",
)


@dataclass(frozen=True, slots=True)
class MalformedMessage:
    """A message that its topic's contract rejects."""

    defect: str
    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None

    def is_rejected(self, timestamp: float, partitions: int) -> bool:
        """Return whether the contracts reject it; computed here, independently of the workers' code.

        Args:
            timestamp: The record's timestamp, unix seconds.
            partitions: The topic's number of partitions.
        """
        try:
            envelope = Envelope.read(self.headers)
            resolve_deadline(envelope.deadline, timestamp, self.topic.deadlines)
        except (EnvelopeError, InvalidMessageError):
            return True
        return (
            self._misaddressed(envelope)
            or envelope.stream_to is not None  # these tests use no valid stream address
            or self._misplaced(partitions)
            or self._unreadable(self.topic.accepts[0].kind if envelope.kind is None else envelope.kind)
        )

    def _misaddressed(self, envelope: Envelope) -> bool:
        to, partition = envelope.reply_to, envelope.reply_partition
        if to == "poise.replies":
            return partition is None or partition >= CATALOGUE[to].partitions
        return to is not None  # there are only Poise's topics in these tests

    def _misplaced(self, partitions: int) -> bool:
        if self.topic is not DOCUMENTS:
            return False
        try:
            key = (self.key or b"").decode()
            _DOCUMENT_ID.validate_python(key)
        except ValueError:
            return True
        return self.partition is not None and self.partition != partition_for(
            key.encode(), partitions
        )  # and moved before

    def _unreadable(self, kind: str) -> bool:
        accepted = {accepts.kind: accepts for accepts in self.topic.accepts}
        if self.value is None:
            return Deletion.kind not in accepted
        if kind not in accepted:
            return True
        if accepted[kind] is Deletion:
            return False
        try:
            accepted[kind].parse(self.value, strict=self.topic.public)
        except ValidationError:
            return True
        return False


def partition_for(key: bytes, partitions: int) -> int:
    """Return the murmur2 partition of a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def malformed_messages(seed: int) -> Iterator[MalformedMessage]:
    """Yield malformed messages endlessly; the same seed gives the same messages."""
    random = Random(seed)
    for number in itertools.count():
        topic = TARGETS[number % len(TARGETS)]
        yield _one(random, topic, number)


def _one(random: Random, topic: Topic, number: int) -> MalformedMessage:
    kind = topic.accepts[0].kind
    good = json.dumps(_GOOD[kind]).encode()
    key = b"k%d" % random.randrange(1_000) if topic is DOCUMENTS or random.random() < 0.5 else None
    headers: Headers = [("correlation_id", b"h-%d" % number)]
    if random.random() < 0.2:
        headers += [("x-unknown", random.randbytes(random.randrange(200))), ("", b"")]
    if random.random() < 0.3:  # the sender wants a reply: on Poise's topic, or on one that does not exist
        headers += [("reply_to", b"poise.replies"), ("poise-reply-partition", b"%d" % random.randrange(12))]
    if topic is DOCUMENTS and random.random() < 0.1:
        return _bad_key(random, good, headers)
    if random.random() < 0.5:
        how, body = _bad_body(random, kind, good)
        if body is None:  # a null document is a deletion; aiokafka sends no record without key and value
            body, key = (b"", key) if topic is DOCUMENTS else (None, key or b"k")
        return MalformedMessage(how, topic, key, body, headers)
    maker = random.choice(_BAD_HEADERS)
    if maker is _absurd_deadline and topic.deadlines is NO_DEADLINE:
        maker = _no_number  # topics without deadlines accept any deadline
    how, more = maker(random)
    return MalformedMessage(how, topic, key, good, headers + more)


# -- bodies -----------------------------------------------------------------------------------------------------------


def _bad_body(random: Random, kind: str, good: bytes) -> tuple[str, bytes | None]:
    maker = random.choice(_BAD_BODIES)
    return maker.__name__.strip("_"), maker(random, kind, good)


def _null(_random: Random, _kind: str, _good: bytes) -> None:
    return None


def _random_bytes(random: Random, _kind: str, _good: bytes) -> bytes:
    return b"\xff" + random.randbytes(_size(random))


def _random_text(random: Random, _kind: str, _good: bytes) -> bytes:
    return ("#" + "".join(random.choices(string.printable, k=random.randrange(300)))).encode()


def _truncated(random: Random, _kind: str, good: bytes) -> bytes:
    return good[: random.randrange(len(good))]


def _followed(random: Random, _kind: str, good: bytes) -> bytes:
    return good + random.choice((b"}", b"{}", b"\0", b",", b"null", good))


def _deep(random: Random, kind: str, _good: bytes) -> bytes:
    depth = random.choice((300, 3_000)) if random.random() < 0.98 else 100_000
    deep = random.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth))
    return deep if random.random() < 0.5 else b'{"%s": %s}' % (_NEEDED[kind].encode(), deep)


def _not_an_object(random: Random, _kind: str, _good: bytes) -> bytes:
    return random.choice((b"[]", b"null", b"true", b"7", b'"x"', b"NaN", b"-Infinity", b"1e999999", b"9" * 5_000))


def _wrong_type(random: Random, kind: str, _good: bytes) -> bytes:
    name = _NEEDED[kind]
    wrong: Any = random.choice(([[]], [{"role": 7}], {}, {"a": None}, True, None, [None] * random.randrange(1, 2_000)))
    return json.dumps({**_GOOD[kind], name: wrong}).encode() if name != "started" or wrong is not True else b"[]"


def _huge_number(random: Random, kind: str, _good: bytes) -> bytes:
    number = random.choice(("9" * 5_000, "1" + "0" * 400, "-" + "7" * 10_000))
    name = {"retrieve/1": "limit", "run-record/1": "tenant"}.get(kind, _NEEDED[kind])
    return b"%s, %s: %s}" % (json.dumps(_GOOD[kind]).encode()[:-1], json.dumps(name).encode(), number.encode())


def _not_a_number(random: Random, kind: str, _good: bytes) -> bytes:
    name = {"generate/1": "max_tokens", "retrieve/1": "limit", "run-record/1": "tenant"}.get(kind, _NEEDED[kind])
    word = random.choice((b"NaN", b"Infinity", b"-Infinity", b"0x10", b"1_000", b"01"))
    return b"%s, %s: %s}" % (json.dumps(_GOOD[kind]).encode()[:-1], json.dumps(name).encode(), word)


def _repeated_field(_random: Random, kind: str, good: bytes) -> bytes:
    return good[:-1] + b", %s: {}}" % json.dumps(_NEEDED[kind]).encode()


def _bad_text(random: Random, kind: str, _good: bytes) -> bytes:
    bad = random.choice(
        (b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\0"', b'"\\x41"', b'"')
    )
    return b"%s, %s: %s}" % (json.dumps(_GOOD[kind]).encode()[:-1], json.dumps(_NEEDED[kind]).encode(), bad)


def _other_encoding(random: Random, _kind: str, good: bytes) -> bytes:
    return good.decode().encode(random.choice(("utf-16", "utf-32", "utf-16-le")))


def _missing(random: Random, kind: str, _good: bytes) -> bytes:
    left = {name: value for name, value in _GOOD[kind].items() if name != _NEEDED[kind]}
    if random.random() < 0.01:  # thousands of unknown fields
        left |= {f"f{n}": n for n in range(5_000)}
    return json.dumps(left).encode()


def _many_mistakes(random: Random, kind: str, _good: bytes) -> bytes:
    many = LARGEST // 4 if random.random() < 0.01 else 500
    if random.random() < 0.5:
        return b'{"%s": [%s0]}' % (_NEEDED[kind].encode(), b"0," * many)
    return b"{%s}" % b",".join(b'"%x":0' % n for n in range(many // 4))


def _size(random: Random) -> int:
    """Return a size: mostly small, occasionally the largest that a topic accepts."""
    return LARGEST if random.random() < 0.005 else random.choice((0, 1, 10, 100, 1_000))


_BAD_BODIES: Final[tuple[Callable[[Random, str, bytes], bytes | None], ...]] = (
    *(_null, _random_bytes, _random_text, _truncated, _followed, _deep, _not_an_object, _wrong_type, _huge_number),
    *(_not_a_number, _repeated_field, _bad_text, _other_encoding, _missing, _many_mistakes),
)


# -- headers ----------------------------------------------------------------------------------------------------------


def _not_utf8(random: Random) -> tuple[str, Headers]:
    return "not UTF-8", [(random.choice(_TEXTS + _NUMBERS), b"\xff" + random.randbytes(random.randrange(40)))]


def _no_number(random: Random) -> tuple[str, Headers]:
    wrong = random.choice(
        ("-1", "1e9", "NaN", "", " 1", "1" * 19, "9" * 5_000, "\u0661\u0662", "²", "0x1", "1_0", "\0")
    )
    return "no number", [(random.choice(_NUMBERS), wrong.encode())]


def _absurd_deadline(random: Random) -> tuple[str, Headers]:
    absurd = random.choice((0, 1, 1_000, 253_370_764_800_000, 10**17, 10**18 - 1))
    return "absurd deadline", [("poise-deadline", b"%d" % absurd)]


def _repeated_header(random: Random) -> tuple[str, Headers]:
    name = random.choice(_NUMBERS)
    return "repeated header", [(name, b"7"), (name, b"8"), (name, random.choice((b"eight", b"\xfe", b"-8")))]


def _unknown_kind(random: Random) -> tuple[str, Headers]:
    kinds = (
        "wish/1",
        "ask",
        "",
        "/",
        "ask/",
        "ask/one",
        "../../etc/passwd",
        "\0",
        "answer/1",
        "fault/1",
        "\U0001f4a3" * 99,
    )
    return "unknown kind", [("poise-kind", random.choice(kinds).encode())]


def _no_such_topic(random: Random) -> tuple[str, Headers]:
    return "no such topic", [("reply_to", b"no-such-%016x" % random.getrandbits(64))]


def _no_topic_name(random: Random) -> tuple[str, Headers]:
    names = ("", ".", "..", "a/b", "a b", "\0", "ü", "x" * 250, "x" * 30_000, "\u202e", "__consumer_offsets\n")
    return "no topic's name", [("reply_to", random.choice(names).encode())]


def _poises_own(random: Random) -> tuple[str, Headers]:
    names = [name for name in CATALOGUE if name != "poise.replies"]
    return "a topic of Poise's", [("reply_to", random.choice([*names, PREFIX, "poise.none"]).encode())]


def _no_partition(random: Random) -> tuple[str, Headers]:
    to: Headers = [("reply_to", b"poise.replies")]
    return "no such partition", [*to, ("poise-reply-partition", b"%d" % random.choice((12, 99, 10**9, 10**17)))]


def _no_stream(random: Random) -> tuple[str, Headers]:
    to = random.choice((b"poise.replies", b"poise.replies/x/c", b"poise.replies/99/c", b"poise.policy/0/c", b"/0/c"))
    return "no place for a stream", [("poise-stream-to", to)]


def _huge_header(random: Random) -> tuple[str, Headers]:
    size = 900_000 if random.random() < 0.02 else 20_000
    name = random.choice((*_TEXTS, "correlation_id", "poise-stream-to", "poise-kind", "poise-min-epoch"))
    return "huge header", [(name, random.choice((b"x", b"\0", b"'\"")) * (size // 2))]


def _many_headers(random: Random) -> tuple[str, Headers]:
    many: Headers = [(f"h{n}", b"") for n in range(5_000 if random.random() < 0.01 else 50)]
    return "many headers", [*many, ("poise-kind", b"none")]


_BAD_HEADERS: Final[tuple[Callable[[Random], tuple[str, Headers]], ...]] = (
    *(_not_utf8, _no_stream, _no_number, _absurd_deadline, _repeated_header, _unknown_kind, _no_such_topic),
    *(_no_topic_name, _poises_own, _no_partition, _huge_header, _many_headers),
)


# -- keys -------------------------------------------------------------------------------------------------------------


def _bad_key(random: Random, good: bytes, headers: Headers) -> MalformedMessage:
    """Return a document whose key is not a document id, or that is not in its key's partition."""
    value = good if random.random() < 0.7 else None
    if random.random() < 0.5:
        key = random.choice((b"", b"\0", b"a\nb", b"\x7f", b"\xff\xfe", b"x" * 501, b"\xed\xa0\x80"))
        return MalformedMessage("not a document id", DOCUMENTS, key, value, headers)
    key = b"d%d" % random.randrange(10**6)
    right = partition_for(key, DOCUMENTS.partitions)
    moved: Headers = [("poise-moved-from", random.choice((b"poise.documents/0/1", b"", b"9" * 5_000)))]
    return MalformedMessage(
        "wrong partition again", DOCUMENTS, key, value, headers + moved, (right + 1) % DOCUMENTS.partitions
    )
