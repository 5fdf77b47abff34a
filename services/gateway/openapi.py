"""OpenAPI: what the gateway's page says of each endpoint."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from poise.contracts import Answer, Ask, Fault, Feedback
from poise.messaging.dead_letter_view import LetterView
from services.gateway.dead_letters import Act, Listed, Purged, Query, RedriveAct, Redrove
from services.gateway.documents import MOST, Accepted, NewDocument
from services.gateway.event_stream import EVENTS
from services.gateway.feedback import Noted
from services.gateway.problems import PROBLEM
from services.gateway.runs import CancelledRun, RunView

DESCRIPTION: Final = """
Ask questions of a corpus, put documents into it, and say what you think of the answers. Every answer says which rung of
the ladder it came from and what it rests on. Every error is `application/problem+json` (RFC 9457) and names the field
or header that is at fault.
"""
VERSION: Final = "1"
"""Of the interface, as in its paths."""
JSON: Final = "application/json"

_PROBLEMS: Final = {
    400: "A field or header is not what it must be; `errors` names it.",
    401: "The token was not sent, or is another.",
    404: "There is no such thing.",
    413: "The body, or a document in it, is too large.",
    415: "The body does not say that it is JSON.",
    499: "Somebody cancelled the run.",
    503: "A part that is needed does not answer, or too much waits; `retry-after` may say when to come again.",
    504: "No answer came before the deadline.",
}
_PROBLEM_EXAMPLE: Final = {
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
_RUN_ID: Final = "019aa7e4-2f10-7c3e-9d6b-5a1f0c7e2b44"
_EPOCH: Final = "e1.1f0e8a52-6c1d-4a57-9f0b-2f6a5c0d9e11.3~41~1764000000000"
_ANSWER_EXAMPLE: Final = {
    "run_id": _RUN_ID,
    "text": "The pass statement is a null operation: when it is executed, nothing happens.",
    "citations": [
        {
            "source": "pass",
            "passage": "pass#0",
            "quote": "pass is a null operation: when it is executed, nothing happens.",
        }
    ],
    "rung": "primary",
    "variant": "brief",
    "epoch": _EPOCH,
    "timings": {"retrieve": 6.1, "generate": 412.0, "total": 421.7},
}
_DOCUMENT_EXAMPLE: Final = {"id": "pass", "source": "The pass statement", "text": "pass is a null operation: …"}
_ACCEPTED_EXAMPLE: Final = {"epoch": _EPOCH, "documents": [{"id": "pass", "partition": 3, "offset": 41}]}
_FEEDBACK_EXAMPLE: Final = {
    "run_id": _RUN_ID,
    "thumb": "down",
    "rating": 2,
    "correction": "pass does nothing; it stands where the grammar wants a statement.",
}
_HEADERS: Final = {
    "poise-deadline": (
        "integer",
        "When the answer is not wanted any more, unix milliseconds. 30 s from now by default, 300 s at the most.",
    ),
    "poise-min-epoch": (
        "string",
        "Answer from an index that has come this far: the `epoch` that `POST /v1/documents` gave.",
    ),
    "cache-control": (
        "string",
        "`no-cache`: work the answer out anew, and keep it; `no-store`: neither look nor keep. The body counts first.",
    ),
    "accept-language": ("string", "The reader's language, where the body has no `language`: the first choice counts."),
    "traceparent": ("string", "The trace that this request belongs to (W3C Trace Context)."),
}


def _header(name: str) -> dict[str, Any]:
    kind, description = _HEADERS[name]
    return {"name": name, "in": "header", "description": description, "schema": {"type": kind}}


def _id(description: str) -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _body(schema: Mapping[str, Any], example: object) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _answers(status: int, model: type[BaseModel], example: object, *problems: int) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": "Done.", "model": model, "content": {JSON: {"example": example}}}
    }
    for problem in problems:
        content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Fault"}}
        if problem == _PROBLEM_EXAMPLE["status"]:
            content["example"] = _PROBLEM_EXAMPLE
        answers[problem] = {"description": _PROBLEMS[problem], "content": {PROBLEM: content}}
    return answers


_NEW: Final = {"$ref": "#/components/schemas/NewDocument"}

_EVENTS_EXAMPLE: Final = """\
id: 0
event: delta
data: {"text":"The pass statement is a null operation"}

id: 1
event: reset
data: {"reason":"the model's answer is not grounded in the passages (0.61)","rung":"extractive"}

id: 2
event: delta
data: {"text":"pass is a null operation: when it is executed, nothing happens."}

id: 3
event: end
data: {}

id: 4
event: answer
data: {"run_id":"019aa7e4-2f10-7c3e-9d6b-5a1f0c7e2b44","text":"pass is a null operation: …","rung":"extractive"}
"""


def _ask_answers() -> dict[int | str, dict[str, Any]]:
    answers = _answers(200, Answer, _ANSWER_EXAMPLE, 400, 413, 415, 499, 503, 504)
    answers[200]["content"][EVENTS] = {"schema": {"type": "string"}, "example": _EVENTS_EXAMPLE}
    return answers


ASK: Final[dict[str, Any]] = {
    "summary": "Ask a question",
    "description": (
        "With `Accept: text/event-stream`, the answer's words come as they are written: `delta` adds text, `reset`"
        " takes back what came and says why, `end` says that no more words come, and `answer` is the whole answer."
        " Words are provisional until `end`. An error after the first event is the event `fault`."
    ),
    "responses": _ask_answers(),
    "openapi_extra": {
        "parameters": [
            _header(name)
            for name in ("poise-deadline", "poise-min-epoch", "cache-control", "accept-language", "traceparent")
        ],
        "requestBody": _body({"$ref": "#/components/schemas/Ask"}, {"question": "What does the pass statement do?"}),
    },
}
PUT_DOCUMENTS: Final[dict[str, Any]] = {
    "summary": "Put documents into the corpus",
    "description": f"One document, or a list of up to {MOST}. A known id replaces its document.",
    "status_code": 202,
    "responses": _answers(202, Accepted, _ACCEPTED_EXAMPLE, 400, 413, 415, 503),
    "openapi_extra": {
        "parameters": [_header("traceparent")],
        "requestBody": _body(
            {"oneOf": [_NEW, {"type": "array", "items": _NEW, "minItems": 1, "maxItems": MOST}]}, _DOCUMENT_EXAMPLE
        ),
    },
}
DELETE_DOCUMENT: Final[dict[str, Any]] = {
    "summary": "Take a document out of the corpus",
    "description": "Accepted whether or not there is such a document.",
    "status_code": 202,
    "responses": _answers(202, Accepted, _ACCEPTED_EXAMPLE, 400, 503),
    "openapi_extra": {"parameters": [_id("The document's id; it may contain slashes."), _header("traceparent")]},
}
GIVE_FEEDBACK: Final[dict[str, Any]] = {
    "summary": "Say what you think of an answer",
    "description": (
        "A thumb, a rating from 1 (worst) to 5 (best), what the answer should have been: at least one of them. More of"
        " the same `id` on the same run replaces what was said, so to send it again does no harm; without an `id` there"
        " is one for each run, so give one for each person where several may speak. Accepted whether or not there is"
        " such a run: it may not have ended yet."
    ),
    "status_code": 202,
    "responses": _answers(202, Noted, {"run_id": _RUN_ID, "id": _RUN_ID}, 400, 404, 413, 415, 503),
    "openapi_extra": {
        "parameters": [_header("traceparent")],
        "requestBody": _body({"$ref": "#/components/schemas/Feedback"}, _FEEDBACK_EXAMPLE),
    },
}
SHOW_RUN: Final[dict[str, Any]] = {
    "summary": "Show a run",
    "description": "Its record, with its steps, its passages and how its variant was chosen; or that it still runs.",
    "responses": _answers(200, RunView, {"run_id": _RUN_ID, "status": "running"}, 404, 503),
    "openapi_extra": {"parameters": [_id("The run's id, as the header `poise-run` of the answer gave it.")]},
}
CANCEL_RUN: Final[dict[str, Any]] = {
    "summary": "Cancel a run",
    "description": "Whoever waits for it gets 499. Accepted whether or not there is such a run, or it has ended.",
    "status_code": 202,
    "responses": _answers(202, CancelledRun, {"run_id": _RUN_ID}, 404, 503),
    "openapi_extra": {"parameters": [_id("The run's id, as the header `poise-run` of the answer gave it.")]},
}

_LETTER_ID: Final = "retrieval/0/41"
_SUMMARY_EXAMPLE: Final = {
    "id": _LETTER_ID,
    "at": 1764000000.5,
    "topic": "poise.documents",
    "error": "TerminalError",
    "message": "the document cannot be split",
    "state": "dead",
    "redrives": 0,
}
_LETTER_EXAMPLE: Final = {
    **_SUMMARY_EXAMPLE,
    "redriven": None,
    "key": "pass",
    "value": '{"text":"…","source":"pass","format":"text"}',
    "headers": [{"name": "poise-kind", "value": "document/1"}],
    "tenant": None,
    "failed_at": "poise.documents/3/41",
    "worker": "retrieval-1",
    "traceback": "TerminalError: the document cannot be split",
}
_ADMIN: Final = (
    " Off (404) unless the setting `admin_token` is given; then it takes `Authorization: Bearer` and that token."
)
_ADMIN_ROUTE: Final[dict[str, Any]] = {"tags": ["admin"]}
_ONLY: Final[dict[str, Any]] = {"security": [{"admin": []}]}


def _act(model: type[BaseModel], example: object) -> dict[str, Any]:
    return _ONLY | {"requestBody": _body({"$ref": f"#/components/schemas/{model.__name__}"}, example)}


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    fields = model.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]


LIST_DEAD_LETTERS: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "summary": "List dead letters",
    "description": "Messages that could not be handled, oldest first; ages read `30s`, `10m`, `2h`, `7d`." + _ADMIN,
    "responses": _answers(200, Listed, {"dead_letters": [_SUMMARY_EXAMPLE], "more": 0}, 400, 401, 404, 503),
    "openapi_extra": _ONLY | {"parameters": _query(Query)},
}
SHOW_DEAD_LETTER: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "summary": "Show a dead letter",
    "description": "Whole: key, headers, body, error and traceback." + _ADMIN,
    "responses": _answers(200, LetterView, _LETTER_EXAMPLE, 401, 404, 503),
    "openapi_extra": _ONLY
    | {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": kind}}
            for name, kind in (("tier", "string"), ("partition", "integer"), ("offset", "integer"))
        ]
    },
}
REDRIVE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "summary": "Send dead letters again",
    "description": (
        "Each once, however often this is asked: to ask again after an error does no harm. What was sent again three"
        " times and died each time is quarantined: it is sent only by its id with `force`." + _ADMIN
    ),
    "responses": _answers(
        200,
        Redrove,
        {"outcomes": [{"id": _LETTER_ID, "sent": "poise.documents/3/57"}], "more": 0, "dry_run": False},
        *(400, 401, 404, 413, 415, 503),
    ),
    "openapi_extra": _act(RedriveAct, {"tier": "retrieval", "error": "TerminalError", "newer_than": "2h"}),
}
PURGE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "summary": "Purge dead letters",
    "description": "For good: they are listed no more and cannot be sent again." + _ADMIN,
    "responses": _answers(
        200, Purged, {"purged": [_LETTER_ID], "more": 0, "dry_run": True}, *(400, 401, 404, 413, 415, 503)
    ),
    "openapi_extra": _act(Act, {"older_than": "7d", "dry_run": True}),
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: the framework's, with the bodies that the contracts read and the form of problems."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema["components"]["schemas"]
        for model in (Ask, NewDocument, Feedback, Fault, Act, RedriveAct):
            form = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(form.pop("$defs", {}))
            schemas[model.__name__] = form
        for model in (Ask, NewDocument, Feedback, Act, RedriveAct):
            schemas[model.__name__]["additionalProperties"] = False
        schema["components"]["securitySchemes"] = {"admin": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema
