"""Builds the OpenAPI document, and its parameters, bodies and responses."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from poise.contracts import Answer, Ask, Fault, Feedback
from poise.contracts.document import DocumentId
from poise.contracts.headers import DEADLINE, MIN_EPOCH, RUN, TRACEPARENT
from poise.contracts.json_schema import Json, OutputSchema, StrictInputSchema, schema_components
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

JSON: Final = "application/json"
REQUEST_MODELS: Final = (Ask, NewDocument, Feedback, PurgeRequest, RedriveRequest)
"""Models that clients send; unknown fields are rejected."""
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
"""Models that the gateway sends, encoded by `Message.encode`."""
TAGS: Final = {
    "asks": "Questions and answers.",
    "documents": "The corpus that answers are based on.",
    "feedback": "People's feedback on answers.",
    "runs": "The state and outcome of a question.",
    "admin": "Dead letters.",
    "health": "For load balancers.",
}

PROBLEMS: Final[Mapping[int | str, str]] = {
    400: "A field or header is invalid; `errors` names it.",
    401: "The token is missing or wrong.",
    404: "The resource does not exist.",
    408: "The request was received too slowly.",
    413: "The body, or a document in it, is too large.",
    415: "The content type is not JSON.",
    421: "The header `Host` is not one of the gateway's names.",
    429: "A rate limit of a model server or of the gateway was reached; `retry-after` may say when to retry.",
    499: "The run was cancelled.",
    500: "The request failed; a retry would fail too.",
    503: "A dependency is unavailable, or the gateway is overloaded; `retry-after` may say when to retry.",
    504: "There was no answer before the deadline, or the deadline had already passed.",
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
        "The deadline, unix milliseconds. For an answer: 30 s from now by default, 300 s at most.",
    ),
    MIN_EPOCH: (
        {"type": "string"},
        "Answer from an index that has reached this epoch, such as the `epoch` of `POST /v1/documents`.",
    ),
    "cache-control": (
        {"type": "string"},
        "`no-cache`: generate a new answer and cache it; `no-store`: bypass the cache. The body takes precedence.",
    ),
    "accept-language": (
        {"type": "string"},
        "The reader's language, if the body has no `language`; the most preferred one is used.",
    ),
    TRACEPARENT: ({"type": "string"}, "The trace that this request belongs to (W3C Trace Context)."),
}
_RESPONSE_HEADERS: Final = {
    RUN: "The run's id.",
    TRACEPARENT: "The run's trace (W3C Trace Context): the request's, or a new one.",
    "retry-after": "Seconds after which a retry may succeed, if known.",
    "www-authenticate": "How to authenticate.",
}
_PROBLEM_HEADERS: Final[Mapping[int | str, tuple[str, ...]]] = {
    401: ("www-authenticate",),
    429: ("retry-after",),
    503: ("retry-after",),
}


def header_parameters(*names: str) -> list[Json]:
    """Return request headers as parameters."""
    return [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name in names
        for schema, text in [_REQUEST_HEADERS[name]]
    ]


def path_parameter(name: str, schema: Json, description: str) -> Json:
    """Return a parameter of the path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


DOCUMENT_ID: Final = path_parameter(
    "id", TypeAdapter(DocumentId).json_schema(), "The document's id, percent-encoded; it may contain slashes."
)
RUN_ID: Final = path_parameter(
    "id", TypeAdapter(RunId).json_schema(), "The run's id, from the response header `poise-run`."
)


def query_parameters(model: type[BaseModel]) -> list[Json]:
    """Return a model's fields as query parameters, which cannot be null."""
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
    """Return a request body."""
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def schema_ref(model: type[BaseModel]) -> Json:
    """Return a reference to a model's schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def responses(
    status: int, description: str, schema: Json | None, example: object, *problems: int, headers: tuple[str, ...] = ()
) -> dict[int | str, Json]:
    """Return the responses of an operation: one success, and problems.

    Args:
        status: The status of the success.
        description: Its description.
        schema: The schema of its body; None = the method has no body.
        example: An example of its body.
        problems: The documented statuses of problems; others are possible.
        headers: Headers of every response.
    """
    body: Json = {} if schema is None else {"content": {JSON: {"schema": schema, "example": example}}}
    documented: dict[int | str, Json] = {status: {"description": description} | body | _headers(*headers)}
    statuses: tuple[int | str, ...] = (*problems, 421, "default")
    for problem in statuses:
        content: Json = {"schema": schema_ref(Fault)}
        if problem == PROBLEM_EXAMPLE["status"]:
            content["example"] = PROBLEM_EXAMPLE
        documented[problem] = (
            {"description": PROBLEMS[problem]}
            | ({} if schema is None else {"content": {PROBLEM_JSON: content}})
            | _headers(*headers, *_PROBLEM_HEADERS.get(problem, ()))
        )
    return documented


def _headers(*names: str) -> Json:
    described = {name: {"description": _RESPONSE_HEADERS[name], "schema": {"type": "string"}} for name in names}
    return {"headers": described} if described else {}


def build_document(app: FastAPI) -> Json:
    """Return the OpenAPI document: FastAPI's, with Poise's schemas of request and response bodies."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
            servers=[{"url": "/", "description": "The server of this document."}],
            license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        )
        schemas = schema_components(REQUEST_MODELS, StrictInputSchema)
        schemas |= schema_components([DeadLetterDetail], mode="serialization")  # its null fields are sent
        schemas |= schema_components(RESPONSE_MODELS, OutputSchema, mode="serialization")
        schema["components"] = {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        }
        app.openapi_schema = schema
    return app.openapi_schema
