"""The contract for other languages: an AsyncAPI 3.0 document, and the JSON Schema of each body.

FastStream generates channels, operations and bodies. What it cannot express is added from the catalog of topics:
headers, several kinds of body in one channel, keys, retention, and where replies go.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Final, cast

from faststream.specification import AsyncAPI

from poise.contracts import json_schema
from poise.contracts.document import Deletion
from poise.contracts.fault import Fault
from poise.contracts.headers import CORRELATION_ID, MESSAGE_HEADERS
from poise.contracts.json_schema import Json
from poise.contracts.message import Message, Request
from poise.contracts.topics import CATALOGUE, REPLIES, TIERS, Topic
from poise.kafka.admin import topic_config
from poise.kafka.connection import Connection
from poise.kafka.consumer import ConcurrentConsumer
from poise.kafka.faststream_adapter import new_broker, subscribe
from poise.kafka.record import Record

REPLY: Final = "reply"
"""The channel that stands for any topic which a request names in `reply_to`."""
INTERNAL: Final = "internal"
"""Suffix of a body that is also public, on topics where its unknown fields are ignored."""


def body_schemas() -> dict[str, Json]:
    """Return the JSON Schema of each body by kind, as it may be written. A deletion, a null value, has none."""
    public = set(_kinds(topic for topic in CATALOGUE.values() if topic.public))
    return {
        kind.kind: {
            "$schema": json_schema.DIALECT,
            "$id": f"urn:poise:schema:{kind.kind}",
            **json_schema.input_schema(kind, strict=kind in public),
        }
        for kind in sorted(_kinds(CATALOGUE.values()), key=lambda kind: kind.kind)
    }


def asyncapi_document(version: str, broker: str = "127.0.0.1:9092") -> Json:
    """Return the AsyncAPI 3.0 document of the mesh, from its own perspective: it receives asks and sends answers.

    Args:
        version: Poise's version.
        broker: The server that the document names.
    """
    document = _declared(version, broker)
    described = [topic for topic in CATALOGUE.values() if _kinds([topic])]
    servers = [{"$ref": f"#/servers/{name}"} for name in document["servers"]]
    document["channels"] = {topic.name: _channel(topic, servers) for topic in described} | {REPLY: _reply_channel()}
    document["operations"] = dict(operation for topic in described for operation in _operations(topic))
    document["info"]["tags"] = [{"name": tier, "description": f"Topics of the {tier} tier."} for tier in TIERS]
    carried = dict.fromkeys((kind, _internal(topic, kind)) for topic in described for kind in _kinds([topic]))
    document["components"] = {
        "messages": {_id(kind, internal=internal): _message(kind, internal=internal) for kind, internal in carried},
        "schemas": {"Headers": _headers()} | dict(sorted(_schemas(described).items())),
        "correlationIds": {CORRELATION_ID: {"location": f"$message.header#/{CORRELATION_ID}"}},
    }
    return document


def _declared(version: str, broker: str) -> Json:
    """Return the document that FastStream generates."""

    async def unused(record: Record) -> None:
        raise NotImplementedError(f"{record.position} was delivered to a document")

    kafka = new_broker(Connection((broker,)))
    for topic in CATALOGUE.values():
        if topic.tier is not None:
            subscribe(
                kafka,
                [topic.name],
                topic.tier,
                ConcurrentConsumer(unused, ordered=topic.ordered),
                accepts=topic.accepts,
                options={},
            )
        elif kinds := _kinds([topic]):
            kafka.publisher(topic.name, schema=reduce(or_, kinds), title=topic.name)
    specification = AsyncAPI(
        kafka,
        title="Poise",
        version=version,
        description=(
            "Bodies are plain JSON, headers are plain strings, except for `correlation_id`, which is any bytes."
            " Publish an `ask/1` to `poise.ask.interactive` with"
            " `reply_to` and `correlation_id`; the answer, or a fault, comes back with the same `correlation_id`."
        ),
        license={"name": "Apache-2.0"},
    ).to_specification()
    return cast("Json", specification.to_jsonable())


def _kinds(topics: Iterable[Topic]) -> list[type[Message]]:
    """Return the bodies that have a schema, in the order of the catalog, without duplicates."""
    return list(dict.fromkeys(k for topic in topics for k in topic.accepts if k not in {Deletion, Message}))


def _internal(topic: Topic, kind: type[Message]) -> bool:
    """Return whether a topic ignores unknown fields of a body which a public topic rejects."""
    return not topic.public and any(kind in other.accepts for other in CATALOGUE.values() if other.public)


def _schemas(topics: list[Topic]) -> Json:
    """Return the schemas of bodies, as each topic accepts them."""
    public = _kinds(topic for topic in topics if topic.public)
    internal = {kind for topic in topics for kind in _kinds([topic]) if _internal(topic, kind)}
    return (
        json_schema.schema_components(kind for kind in _kinds(topics) if kind not in public)
        | {f"{kind.__name__}.{INTERNAL}": json_schema.input_schema(kind) for kind in internal}
        | json_schema.schema_components(public, json_schema.StrictInputSchema)
    )


def _id(kind: type[Message], *, internal: bool = False) -> str:
    """Return a kind as a name in the document, in which `/` is not allowed: `ask.1`."""
    return kind.kind.replace("/", ".") + (f".{INTERNAL}" if internal else "")


def _text(documented: type) -> str:
    return " ".join((documented.__doc__ or "").split())


def _channel(topic: Topic, servers: list[Json]) -> Json:
    written = topic_config(topic)
    numbers = {name: int(value) for name, value in written.items() if name != "cleanup.policy"}
    deletion = " A null value deletes." if Deletion in topic.accepts else ""
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}.{deletion}",
        "servers": servers,
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"}
            for kind in _kinds([topic])
            for name in [_id(kind, internal=_internal(topic, kind))]
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"cleanup.policy": [written["cleanup.policy"]], **numbers},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _reply_channel() -> Json:
    return {
        "address": None,
        "description": "The topic that a request names in its header `reply_to`.",
        "messages": {_id(kind): {"$ref": f"#/components/messages/{_id(kind)}"} for kind in REPLIES.accepts},
    }


def _operations(topic: Topic) -> Iterable[tuple[str, Json]]:
    """Yield what the mesh does with a topic: a tier receives it, or workers send to it."""
    channel = {"$ref": f"#/channels/{topic.name}"}
    messages = [_in_channel(topic.name, _id(kind, internal=_internal(topic, kind))) for kind in _kinds([topic])]
    if topic.tier is None:
        yield (
            f"send.{topic.name}",
            {
                "action": "send",
                "channel": channel,
                "description": "Written by Poise; a reader must ignore fields that it does not know.",
                "messages": messages,
            },
        )
        return
    received: Json = {
        "action": "receive",
        "channel": channel,
        "title": f"The {topic.tier} tier handles it",
        "description": f"Unknown fields are {'rejected' if topic.public else 'ignored'}.",
        "tags": [{"name": topic.tier}],
        "messages": messages,
    }
    replies: list[type[Message]] = [kind.reply for kind in topic.accepts if issubclass(kind, Request)]
    if replies:
        replies.append(Fault)
        received["reply"] = {
            "address": {"location": "$message.header#/reply_to"},
            "channel": {"$ref": f"#/channels/{REPLY}"},
            "messages": [_in_channel(REPLY, _id(kind)) for kind in replies],
        }
    yield f"receive.{topic.name}", received


def _in_channel(channel: str, message: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _message(kind: type[Message], *, internal: bool) -> Json:
    return {
        "name": kind.kind,
        "title": kind.__name__,
        "summary": _text(kind),
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/Headers"},
        "correlationId": {"$ref": "#/components/correlationIds/correlation_id"},
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}{f'.{INTERNAL}' if internal else ''}"},
    }


def _headers() -> Json:
    properties = {
        name: {"type": "string", "description": meaning} | ({} if pattern is None else {"pattern": pattern})
        for name, (meaning, pattern) in MESSAGE_HEADERS.items()
    }
    description = "All are optional. A null header counts as absent, and the last of several counts."
    return {"type": "object", "description": description, "properties": properties}
