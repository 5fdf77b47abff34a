"""Parts of the OpenAPI document: parameters, bodies, responses, and the document that is made of them."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from poise.contracts import Answer, Ask, Fault, Feedback
from poise.contracts.document import DocumentId
from poise.contracts.headers import DEADLINE, MIN_EPOCH, RUN, TRACEPARENT
from poise.contracts.json_schema import OutputSchema, StrictInputSchema, schema_components
from poise.contracts.run_id import RunId
from poise.dead_letters.json_view import DeadLetterDetail
from poise_services.gateway.dead_letters import (
    ListResponse,
    PurgeRequest,
    PurgeResponse,
    RedriveRequest,
    RedriveResponse,
)
from poise_services.gateway.documents import DocumentsAccepted, NewDocument
from poise_services.gateway.feedback import FeedbackAccepted
from poise_services.gateway.problems import PROBLEM_JSON
from poise_services.gateway.runs import CancelResponse, RunView

Json = dict[str, Any]

JSON: Final = "application/json"
REQUEST_MODELS: Final = (Ask, NewDocument, Feedback, PurgeRequest, RedriveRequest)
"""What clients send; unknown fields are refused."""
RESPONSE_MODELS: Final = (
    Answer,
    Fault,
    DocumentsAccepted,
    FeedbackAccepted,
    RunView,
    CancelResponse,
    ListResponse,
    RedriveResponse,
    PurgeResponse,
)
"""What the gateway sends, by `Message.encode`."""
TAGS: Final = {
    "asks": "Questions, and their answers.",
    "documents": "What answers rest on.",
    "feedback": "What people think of answers.",
    "runs": "What became of a question.",
    "admin": "Messages that could not be handled.",
    "health": "For load balancers.",
}

PROBLEMS: Final[Mapping[int | str, str]] = {
    400: "A field or header is not what it must be; `errors` names it.",
    401: "The token was not sent, or is another.",
    404: "There is no such thing.",
    408: "The body took too long to come.",
    413: "The body, or a document in it, is too large.",
    415: "The body does not say that it is JSON.",
    421: "The header `Host` names another server.",
    429: "A model's server, or the gateway, wants fewer requests; `retry-after` may say when to come again.",
    499: "Somebody cancelled the run.",
    500: "It failed, and would fail again.",
    503: "A part that is needed does not answer, or too much waits; `retry-after` may say when to come again.",
    504: "No answer came before the deadline, or the deadline had passed when the request came.",
    "default": "Any other problem.",
}
PROBLEM_EXAMPLE: Final = {
    "type": "urn:poise:invalid",
    "title": "Invalid message",
    "status": 400,
    "detail": "question: Field required; quesion: Extra inputs are not permitted",
    "retryable": False,
    "errors": [
        {"field": "question", "detail": "Field required"},
        {"field": "quesion", "detail": "Extra inputs are not permitted"},
    ],
}
_REQUEST_HEADERS: Final[Mapping[str, tuple[Json, str]]] = {
    DEADLINE: (
        {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "When nobody wants it any more, unix milliseconds. For an answer, 30 s from now by default, 300 s at the most.",
    ),
    MIN_EPOCH: (
        {"type": "string"},
        "Answer from an index that has come this far: the `epoch` that `POST /v1/documents` gave.",
    ),
    "cache-control": (
        {"type": "string"},
        "`no-cache`: work the answer out again, and keep it; `no-store`: neither look nor keep. The body counts first.",
    ),
    "accept-language": (
        {"type": "string"},
        "The reader's language, where the body has no `language`: the first choice counts.",
    ),
    TRACEPARENT: ({"type": "string"}, "The trace that this request belongs to (W3C Trace Context)."),
}
_RESPONSE_HEADERS: Final = {
    RUN: "The run's id.",
    TRACEPARENT: "The run's trace (W3C Trace Context): the one that was given, else a new one.",
    "retry-after": "Seconds after which it may succeed, where that is known.",
    "www-authenticate": "How to authenticate.",
}
_PROBLEM_HEADERS: Final[Mapping[int | str, tuple[str, ...]]] = {
    401: ("www-authenticate",),
    429: ("retry-after",),
    503: ("retry-after",),
}


def header_parameters(*names: str) -> list[Json]:
    """Headers that a request may have."""
    return [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name in names
        for schema, text in [_REQUEST_HEADERS[name]]
    ]


def path_parameter(name: str, schema: Json, description: str) -> Json:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


DOCUMENT_ID: Final = path_parameter(
    "id", TypeAdapter(DocumentId).json_schema(), "The document's id, percent-encoded; it may contain slashes."
)
RUN_ID: Final = path_parameter(
    "id", TypeAdapter(RunId).json_schema(), "The run's id, as the header `poise-run` of the answer gave it."
)


def query_parameters(model: type[BaseModel]) -> list[Json]:
    """A model's fields as parameters of the query, which cannot be null."""
    fields = model.model_json_schema(mode="serialization", schema_generator=OutputSchema)["properties"]
    defaults = {name: field.default for name, field in model.model_fields.items() if field.default is not None}
    return [
        {
            "name": name,
            "in": "query",
            "schema": schema | ({"default": defaults[name]} if name in defaults else {}),
        }
        for name, schema in fields.items()
    ]


def request_body(schema: Mapping[str, Any], example: object) -> Json:
    """The body of a request."""
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def schema_ref(model: type[BaseModel]) -> Json:
    """A model of the document's."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def responses(
    status: int, said: str, schema: Json | None, example: object, *problems: int, sent: tuple[str, ...] = ()
) -> dict[int | str, Json]:
    """What an operation answers: one success, and problems.

    Args:
        status: Of the success.
        said: What it means.
        schema: Of its body; None = the method has none.
        example: Of its body.
        problems: Their statuses; any other may come too.
        sent: Headers of every response.
    """
    body: Json = {} if schema is None else {"content": {JSON: {"schema": schema, "example": example}}}
    found: dict[int | str, Json] = {status: {"description": said} | body | _headers(*sent)}
    statuses: tuple[int | str, ...] = (*problems, 421, "default")
    for problem in statuses:
        content: Json = {"schema": schema_ref(Fault)}
        if problem == PROBLEM_EXAMPLE["status"]:
            content["example"] = PROBLEM_EXAMPLE
        found[problem] = (
            {"description": PROBLEMS[problem]}
            | ({} if schema is None else {"content": {PROBLEM_JSON: content}})
            | _headers(*sent, *_PROBLEM_HEADERS.get(problem, ()))
        )
    return found


def _headers(*names: str) -> Json:
    described = {name: {"description": _RESPONSE_HEADERS[name], "schema": {"type": "string"}} for name in names}
    return {"headers": described} if described else {}


def build_document(app: FastAPI) -> Json:
    """The OpenAPI document: the framework's, with the schemas of bodies as they are read and written."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
            servers=[{"url": "/", "description": "Where this document is."}],
            license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        )
        schemas = schema_components(REQUEST_MODELS, StrictInputSchema)
        schemas |= schema_components([DeadLetterDetail], mode="serialization")  # whose nulls are written
        schemas |= schema_components(RESPONSE_MODELS, OutputSchema, mode="serialization")
        schema["components"] = {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        }
        app.openapi_schema = schema
    return app.openapi_schema
