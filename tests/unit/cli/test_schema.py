import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from poise.cli.app import app
from poise.contracts import Ask, Envelope
from poise.contracts.headers import MESSAGE_HEADERS
from poise.contracts.topics import CATALOGUE
from poise.kafka.asyncapi_document import asyncapi_document, body_schemas

NAME = re.compile(r"[a-zA-Z0-9.\-_]+")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(asyncapi_document("1.2.3", "kafka:9092")))
    return found


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def resolve(document: dict[str, Any], ref: str) -> Any:
    node: Any = document
    for part in ref.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def test_document_has_the_fields_that_asyncapi_3_requires(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert (document["info"]["title"], document["info"]["version"]) == ("Poise", "1.2.3")
    assert all(
        server["host"] == "kafka:9092" and server["protocol"] == "kafka" for server in document["servers"].values()
    )


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = list(refs(document))
    assert len(found) > 100
    for ref in found:
        assert resolve(document, ref)


def test_every_name_is_valid_in_asyncapi(document: dict[str, Any]) -> None:
    names = [name for part in document["components"].values() for name in part]
    names += [*document["channels"], *document["operations"]]
    names += [name for channel in document["channels"].values() for name in channel["messages"]]
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_operations_use_messages_of_their_channel(document: dict[str, Any]) -> None:
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        for use in (operation, operation.get("reply")):
            if use is not None:
                channel = use["channel"]["$ref"]
                assert use["messages"]
                assert all(message["$ref"].startswith(f"{channel}/messages/") for message in use["messages"])


def test_reply_address_is_the_reply_to_header(document: dict[str, Any]) -> None:
    reply = document["operations"]["receive.poise.ask.interactive"]["reply"]
    assert reply["address"] == {"location": "$message.header#/reply_to"}
    assert resolve(document, reply["channel"]["$ref"])["address"] is None  # required beside an `address`
    kinds = [resolve(document, resolve(document, message["$ref"])["$ref"])["name"] for message in reply["messages"]]
    assert kinds == ["answer/1", "fault/1"]


def test_every_topic_with_its_own_bodies_is_a_channel(document: dict[str, Any]) -> None:
    topics = {name for name in CATALOGUE if not name.endswith(".dead") and ".retry." not in name}
    assert {channel["address"] for channel in document["channels"].values()} == topics | {None}


def test_every_header_of_the_envelope_is_described() -> None:
    every = Envelope(
        **{
            name: 1 if name in {"reply_partition", "deadline", "attempt", "redrives", "doc_version", "seq"} else "x"
            for name in (
                "correlation_id",
                "reply_to",
                "content_type",
                "reply_partition",
                "deadline",
                "attempt",
                "run",
                "step",
                "tenant",
                "region",
                "kind",
                "min_epoch",
                "origin",
                "redrives",
                "doc_version",
                "stream_to",
                "stream",
                "seq",
            )
        },  # type: ignore[arg-type]
        trace={"traceparent": "x", "tracestate": "x", "baggage": "x"},
    )
    assert {name for name, _ in every.headers()} == set(MESSAGE_HEADERS)
    assert set(Envelope.__dataclass_fields__) - {"trace"} <= {
        name.removeprefix("poise-").replace("-", "_") for name in MESSAGE_HEADERS
    }


def test_every_body_has_a_schema() -> None:
    found = body_schemas()
    carried = {kind.kind for topic in CATALOGUE.values() for kind in topic.accepts if hasattr(kind, "kind")}
    assert set(found) == carried - {"deletion/1"}
    assert found["ask/1"]["$id"] == "urn:poise:schema:ask/1"
    assert found["ask/1"]["properties"].keys() == Ask.model_fields.keys()
    for schema in found.values():
        assert all(resolve(schema, ref) for ref in refs(schema))


def test_schemas_are_printed_or_written(tmp_path: Path) -> None:
    runner = CliRunner()
    printed = runner.invoke(app, ["schema", "json"])
    assert json.loads(printed.stdout) == body_schemas()
    written = runner.invoke(app, ["schema", "json", "--out", str(tmp_path / "out")])
    assert written.stdout == ""
    assert json.loads((tmp_path / "out" / "ask.1.schema.json").read_text(encoding="utf-8")) == body_schemas()["ask/1"]
    assert runner.invoke(app, ["schema", "asyncapi", "--out", str(tmp_path)]).exit_code == 0
    assert json.loads((tmp_path / "asyncapi.json").read_text(encoding="utf-8"))["asyncapi"] == "3.0.0"


def test_unwritable_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shown = CliRunner().invoke(app, ["schema", "json", "--out", str(tmp_path / "file")])
    assert shown.exit_code == 1
    assert shown.stderr.startswith("poise: ")
