"""Published schemas: parsers accept what they accept, public ones nothing else, and written bodies conform to them."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from pydantic import ValidationError
from schema_kit import Schema, encode_body, nearly_valid_values, valid_values, validator

from poise.contracts import Ask, Document, Feedback, Message, json_schema
from poise.contracts.topics import CATALOGUE
from poise.dead_letters.redrive_plan import RedriveOptions
from poise.errors import InvalidMessageError
from poise.kafka.asyncapi_document import asyncapi_document, body_schemas
from poise_services.gateway.dead_letters import PurgeRequest, RedriveRequest
from poise_services.gateway.documents import NewDocument, parse_documents
from poise_services.gateway.handlers import Gateway
from poise_services.gateway.openapi_parts import REQUEST_MODELS, RESPONSE_MODELS
from poise_services.gateway.settings import GatewaySettings

OPENAPI: Schema = Gateway(Mock(), GatewaySettings()).app.openapi()
ASYNCAPI: Schema = asyncapi_document("1.2.3")
BODIES = body_schemas()
KINDS = {kind.kind: kind for topic in CATALOGUE.values() for kind in topic.accepts if hasattr(kind, "kind")}

SLOW = settings(max_examples=40, suppress_health_check=list(HealthCheck))
QUICK = settings(max_examples=10, suppress_health_check=list(HealthCheck))


def in_openapi(name: str) -> Schema:
    """Return a schema of the OpenAPI document, with the components that it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": OPENAPI["components"]}


def defaults(schema: object) -> Iterator[object]:
    """Yield the defaults of a schema at any depth, except null."""
    if isinstance(schema, dict):
        default = schema.get("default")
        if default is not None and not isinstance(default, dict):  # else a property of that name
            yield default
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else ():
        yield from defaults(inner)


def test_default_is_described_in_text() -> None:
    """Check that no schema has the keyword `default`: some generators then require the field of clients."""
    assert list(defaults(OPENAPI["components"]["schemas"])) == []
    assert "Absent = " in json.dumps(OPENAPI["components"]["schemas"])


def act(body: bytes) -> None:
    PurgeRequest.parse(body, strict=True).to_filter()


def redrive(body: bytes) -> None:
    given_ = RedriveRequest.parse(body, strict=True)
    RedriveOptions(force=given_.force).check(given_.to_filter())


def documents(body: bytes) -> None:
    parse_documents(body)


DOCUMENTS = OPENAPI["paths"]["/v1/documents"]["post"]["requestBody"]["content"]["application/json"]["schema"]

PUBLIC: dict[str, tuple[Schema, Callable[[bytes], object]]] = {
    "ask/1": (BODIES["ask/1"], lambda body: Ask.parse(body, strict=True)),
    "document/1": (BODIES["document/1"], lambda body: Document.parse(body, strict=True)),
    "feedback/1": (BODIES["feedback/1"], lambda body: Feedback.parse(body, strict=True)),
    "POST /v1/ask": (in_openapi("Ask"), lambda body: Ask.parse(body, strict=True)),
    "POST /v1/feedback": (in_openapi("Feedback"), lambda body: Feedback.parse(body, strict=True)),
    "POST /v1/documents": ({**DOCUMENTS, "components": OPENAPI["components"]}, documents),
    "NewDocument": (in_openapi("NewDocument"), lambda body: NewDocument.parse(body, strict=True)),
    "purge": (in_openapi("PurgeRequest"), act),
    "redrive": (in_openapi("RedriveRequest"), redrive),
}
"""What anyone may write: its schema and its parser."""


def takes(parser: Callable[[bytes], object], value: Any) -> bool:
    try:
        parser(encode_body(value))
    except (ValidationError, InvalidMessageError):
        return False
    return True


def unsayable(value: Any) -> bool:
    """Return whether a value is invalid for a reason that no schema can express.

    That is a repeated id in a list, or ages that exclude each other.
    """
    if isinstance(value, list):
        ids = [one.get("id") for one in value if isinstance(one, dict)]
        return any(ids.count(one) > 1 for one in ids)
    return isinstance(value, dict) and None not in (value.get("older_than"), value.get("newer_than"))


@pytest.mark.parametrize("name", PUBLIC)
@given(data=st.data())
@SLOW
def test_parser_accepts_what_the_schema_accepts(name: str, data: st.DataObject) -> None:
    schema, parser = PUBLIC[name]
    value = data.draw(valid_values(schema))
    assume(not unsayable(value))
    assert takes(parser, value)


@pytest.mark.parametrize("name", PUBLIC)
@given(data=st.data())
@SLOW
def test_parser_and_schema_agree_on_nearly_valid_values(name: str, data: st.DataObject) -> None:
    schema, parser = PUBLIC[name]
    value = data.draw(nearly_valid_values(schema))
    assume(not unsayable(value))
    assert takes(parser, value) == validator(schema).is_valid(value), value


RUN = "019aa7e4-2f10-7c3e-9d6b-5a1f0c7e2b44"


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("POST /v1/documents", {"id": "a", "text": "b"}, True),
        ("POST /v1/documents", {"id": "a", "text": "b", "source": None}, True),
        ("POST /v1/documents", {"id": "a", "text": "b", "source": ""}, False),
        ("POST /v1/documents", {"id": "a", "text": "\x85\u2003\x1c"}, False),
        ("POST /v1/documents", {"id": "a", "text": "\ufeff"}, True),
        ("POST /v1/documents", {"id": "a\n", "text": "b"}, False),
        ("POST /v1/ask", {"question": " \x1f "}, False),
        ("POST /v1/ask", {"question": " " * 7_999 + "?"}, True),
        ("POST /v1/ask", {"question": " " * 8_000 + "?"}, False),
        ("POST /v1/ask", {"question": "?", "workflow": "answer\n"}, False),
        ("POST /v1/feedback", {"run_id": RUN, "rating": 4.0}, True),
        ("POST /v1/feedback", {"run_id": RUN, "rating": 4.5}, False),
        ("POST /v1/feedback", {"run_id": RUN, "rating": "4"}, False),
        ("POST /v1/feedback", {"run_id": RUN, "rating": True}, False),
        ("POST /v1/feedback", {"run_id": RUN, "rating": 0}, False),
        ("POST /v1/feedback", {"run_id": RUN}, False),
        ("POST /v1/feedback", {"run_id": RUN, "comment": "Hm.", "thumb": None}, False),
        ("POST /v1/feedback", {"run_id": RUN.upper(), "thumb": "up"}, False),
        ("feedback/1", {"run_id": RUN, "rating": 4.0}, True),
        ("feedback/1", {"run_id": RUN, "comment": "Hm."}, False),
        ("feedback/1", {"run_id": RUN, "thumb": "up", "colour": "red"}, False),
        ("purge", {}, False),
        ("purge", {"all": "yes"}, False),
        ("purge", {"all": True, "limit": 2.0}, True),
        ("purge", {"older_than": "7"}, False),
        ("redrive", {"all": True, "force": True}, False),
        ("redrive", {"ids": ["retrieval/0/41"], "force": True}, True),
    ],
)
def test_parser_and_schema_agree_on_examples(name: str, value: Any, *, right: bool) -> None:
    schema, parser = PUBLIC[name]
    assert (takes(parser, value), validator(schema).is_valid(value)) == (right, right)


# -- bodies between tiers, and written bodies --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BODIES)
@given(data=st.data())
@QUICK
def test_body_that_its_schema_accepts_round_trips(kind: str, data: st.DataObject) -> None:
    value = data.draw(valid_values(BODIES[kind]))
    body = KINDS[kind].parse(encode_body(value))
    assert validator(BODIES[kind]).is_valid(json.loads(body.encode()))


@pytest.mark.parametrize("model", RESPONSE_MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@QUICK
def test_encoded_response_is_valid_by_its_schema(model: type[Message], data: st.DataObject) -> None:
    value = data.draw(valid_values(json_schema.input_schema(model)))
    written = json.loads(model.parse(encode_body(value)).encode())
    assert list(validator(in_openapi(model.__name__)).iter_errors(written)) == []


@pytest.mark.parametrize("model", RESPONSE_MODELS, ids=lambda model: model.__name__)
def test_fields_always_written_are_required_in_response_schemas(model: type[Message]) -> None:
    schema = OPENAPI["components"]["schemas"][model.__name__]
    maybe_absent = {
        name for name, field in model.model_fields.items() if not field.is_required() and field.default is None
    }
    assert set(schema.get("required", ())) == model.model_fields.keys() - maybe_absent
    assert schema["additionalProperties"] is True


@pytest.mark.parametrize("model", REQUEST_MODELS, ids=lambda model: model.__name__)
def test_fields_with_a_default_are_optional_in_request_schemas(model: type[Message]) -> None:
    schema = OPENAPI["components"]["schemas"][model.__name__]
    assert set(schema.get("required", ())) == {
        name for name, field in model.model_fields.items() if field.is_required()
    }
    assert schema["additionalProperties"] is False


# -- documents ---------------------------------------------------------------------------------------------------------


def test_the_openapi_document_is_valid() -> None:
    validate(OPENAPI)


def test_schemas_forbid_unknown_fields_where_the_parser_does() -> None:
    schemas, messages = ASYNCAPI["components"]["schemas"], ASYNCAPI["components"]["messages"]
    for name, channel in ASYNCAPI["channels"].items():
        if name not in CATALOGUE:
            continue
        for message in channel["messages"].values():
            payload = messages[message["$ref"].rpartition("/")[2]]["payload"]["$ref"]
            refused = schemas[payload.rpartition("/")[2]].get("additionalProperties") is False
            assert refused == CATALOGUE[name].public, (name, payload)
    public = {kind.kind for topic in CATALOGUE.values() if topic.public for kind in topic.accepts} & BODIES.keys()
    assert {kind for kind, schema in BODIES.items() if schema.get("additionalProperties") is False} == public


def test_patterns_are_portable_between_regex_dialects() -> None:
    r"""Check that no pattern uses `\s`, `\w`, `\d`, look-around or flags, which differ between dialects."""
    found = {one for document in (OPENAPI, ASYNCAPI, BODIES) for one in patterns(document)}
    assert len(found) > 5
    assert [one for one in found if re.search(r"\\[sSwWdDbB]|\(\?(?!:)", one)] == []


def patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    for value in part if isinstance(part, list) else ():
        yield from patterns(value)
