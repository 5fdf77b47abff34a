"""OpenAPI: what the gateway's page says of each endpoint."""

from typing import Any, Final

from fastapi import Response
from pydantic import BaseModel

from poise.contracts import Answer, Ask, Feedback
from poise.contracts.headers import DEADLINE, KIND, MIN_EPOCH, RUN, TRACEPARENT
from poise.dead_letters.json_view import DeadLetterDetail
from poise_services.gateway.dead_letters import (
    ListQuery,
    ListResponse,
    PurgeRequest,
    PurgeResponse,
    RedriveRequest,
    RedriveResponse,
)
from poise_services.gateway.documents import MAX_DOCUMENTS, DocumentsAccepted, NewDocument
from poise_services.gateway.event_stream import EVENT_STREAM
from poise_services.gateway.feedback import FeedbackAccepted
from poise_services.gateway.openapi_parts import (
    DOCUMENT_ID,
    RUN_ID,
    header_parameters,
    path_parameter,
    query_parameters,
    request_body,
    responses,
    schema_ref,
)
from poise_services.gateway.runs import CancelResponse, RunView

DESCRIPTION: Final = """
Ask questions of a corpus, put documents into it, and say what you think of the answers. Every answer says which rung of
the ladder it came from and what it rests on. Every error is `application/problem+json` (RFC 9457) and names the field
or header that is at fault. Optional fields without a value are absent from responses, never null; a client must pass
over fields that it does not know.
"""
VERSION: Final = "1"
"""Of the interface, as in its paths."""

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
    "degraded": [],
    "cached": False,
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


def _ask_responses() -> dict[int | str, dict[str, Any]]:
    found = responses(
        200,
        "The answer.",
        schema_ref(Answer),
        _ANSWER_EXAMPLE,
        *(400, 408, 413, 415, 429, 499, 500, 503, 504),
        sent=(RUN, TRACEPARENT),
    )
    found[200]["content"][EVENT_STREAM] = {"schema": {"type": "string"}, "example": _EVENTS_EXAMPLE}
    return found


ASK: Final[dict[str, Any]] = {
    "operation_id": "ask",
    "tags": ["asks"],
    "summary": "Ask a question",
    "description": (
        "Where `Accept` prefers `text/event-stream` to `application/json`, the answer's words come as they are written:"
        " `delta` adds text, `reset` takes back what came and says why, `end` says that no more words come, and"
        " `answer` is the whole answer. Words are provisional until `end`. An error after the first event is the event"
        " `fault`."
    ),
    "responses": _ask_responses(),
    "openapi_extra": {
        "parameters": header_parameters(DEADLINE, MIN_EPOCH, "cache-control", "accept-language", TRACEPARENT),
        "requestBody": request_body(schema_ref(Ask), {"question": "What does the pass statement do?"}),
    },
}
PUT_DOCUMENTS: Final[dict[str, Any]] = {
    "operation_id": "put_documents",
    "tags": ["documents"],
    "summary": "Put documents into the corpus",
    "description": (
        f"One document, or a list of up to {MAX_DOCUMENTS}, each id once. A known id replaces its document. A document"
        " of more than 1,000,000 bytes as UTF-8 is too large (413)."
    ),
    "status_code": 202,
    "responses": responses(
        202,
        "They are in the log.",
        schema_ref(DocumentsAccepted),
        _ACCEPTED_EXAMPLE,
        *(400, 408, 413, 415, 500, 503, 504),
    ),
    "openapi_extra": {
        "parameters": header_parameters(DEADLINE, TRACEPARENT),
        "requestBody": request_body(
            {
                "oneOf": [
                    schema_ref(NewDocument),
                    {"type": "array", "items": schema_ref(NewDocument), "minItems": 1, "maxItems": MAX_DOCUMENTS},
                ]
            },
            _DOCUMENT_EXAMPLE,
        ),
    },
}
DELETE_DOCUMENT: Final[dict[str, Any]] = {
    "operation_id": "delete_document",
    "tags": ["documents"],
    "summary": "Take a document out of the corpus",
    "description": "Accepted whether or not there is such a document.",
    "status_code": 202,
    "responses": responses(
        202, "Its deletion is in the log.", schema_ref(DocumentsAccepted), _ACCEPTED_EXAMPLE, *(400, 429, 500, 503, 504)
    ),
    "openapi_extra": {"parameters": [DOCUMENT_ID, *header_parameters(DEADLINE, TRACEPARENT)]},
}
GIVE_FEEDBACK: Final[dict[str, Any]] = {
    "operation_id": "give_feedback",
    "tags": ["feedback"],
    "summary": "Say what you think of an answer",
    "description": (
        "A thumb, a rating from 1 (worst) to 5 (best), what the answer should have been: at least one of them. More of"
        " the same `id` on the same run replaces what was said, so to send it again does no harm; without an `id` there"
        " is one for each run, so give one for each person where several may speak. Accepted whether or not there is"
        " such a run: it may not have ended yet."
    ),
    "status_code": 202,
    "responses": responses(
        202,
        "It is in the log.",
        schema_ref(FeedbackAccepted),
        {"run_id": _RUN_ID, "id": _RUN_ID},
        *(400, 404, 408, 413, 415, 429, 500, 503, 504),
    ),
    "openapi_extra": {
        "parameters": header_parameters(DEADLINE, TRACEPARENT),
        "requestBody": request_body(schema_ref(Feedback), _FEEDBACK_EXAMPLE),
    },
}
SHOW_RUN: Final[dict[str, Any]] = {
    "operation_id": "show_run",
    "tags": ["runs"],
    "summary": "Show a run",
    "description": (
        "How it ended, and its record, with its steps, its passages and how its variant was chosen; or that it still"
        " runs. Of a run that ended without an answer `outcome` and `fault` say why."
    ),
    "responses": responses(
        200,
        "The run.",
        schema_ref(RunView),
        {"run_id": _RUN_ID, "status": "finished", "outcome": "deadline-exceeded"},
        404,
        500,
        503,
    ),
    "openapi_extra": {"parameters": [RUN_ID]},
}
CANCEL_RUN: Final[dict[str, Any]] = {
    "operation_id": "cancel_run",
    "tags": ["runs"],
    "summary": "Cancel a run",
    "description": "Whoever waits for it gets 499. Accepted for any id that may be of a run under way.",
    "status_code": 202,
    "responses": responses(
        202, "Every worker is told to stop it.", schema_ref(CancelResponse), {"run_id": _RUN_ID}, 404, 429, 500, 503
    ),
    "openapi_extra": {"parameters": [RUN_ID]},
}

_DEAD_LETTER_ID: Final = "retrieval/0/41"
_SUMMARY_EXAMPLE: Final = {
    "id": _DEAD_LETTER_ID,
    "at": 1764000000.5,
    "topic": "poise.documents",
    "error": "TerminalError",
    "message": "the document cannot be split",
    "state": "dead",
    "redrives": 0,
}
_DEAD_LETTER_EXAMPLE: Final = {
    **_SUMMARY_EXAMPLE,
    "redriven": None,
    "key": "pass",
    "value": '{"text":"…","source":"pass","format":"text"}',
    "headers": [{"name": KIND, "value": "document/1"}],
    "tenant": None,
    "failed_at": "poise.documents/3/41",
    "worker": "retrieval-1",
    "traceback": "TerminalError: the document cannot be split",
}
_ADMIN_NOTE: Final = (
    " Off (404) unless the setting `admin_token` is given; then it takes `Authorization: Bearer` and that token."
)
_ADMIN_ROUTE: Final[dict[str, Any]] = {"tags": ["admin"]}
_ADMIN_SECURITY: Final[dict[str, Any]] = {"security": [{"admin": []}]}


def _admin_body(model: type[BaseModel], example: object) -> dict[str, Any]:
    return _ADMIN_SECURITY | {"requestBody": request_body(schema_ref(model), example)}


LIST_DEAD_LETTERS: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "list_dead_letters",
    "summary": "List dead letters",
    "description": "Messages that could not be handled, oldest first; ages read `30s`, `10m`, `2h`, `7d`."
    + _ADMIN_NOTE,
    "responses": responses(
        200,
        "Dead letters.",
        schema_ref(ListResponse),
        {"dead_letters": [_SUMMARY_EXAMPLE], "more": 0},
        *(400, 401, 404, 500, 503),
    ),
    "openapi_extra": _ADMIN_SECURITY | {"parameters": query_parameters(ListQuery)},
}
SHOW_DEAD_LETTER: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "show_dead_letter",
    "summary": "Show a dead letter",
    "description": "Whole: key, headers, body, error and traceback." + _ADMIN_NOTE,
    "responses": responses(
        200, "The dead letter.", schema_ref(DeadLetterDetail), _DEAD_LETTER_EXAMPLE, *(401, 404, 500, 503)
    ),
    "openapi_extra": _ADMIN_SECURITY
    | {
        "parameters": [
            path_parameter("tier", {"type": "string"}, "The first part of its id."),
            path_parameter("partition", {"type": "integer"}, "The second part."),
            path_parameter("offset", {"type": "integer"}, "The third part."),
        ]
    },
}
REDRIVE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "redrive_dead_letters",
    "summary": "Send dead letters again",
    "description": (
        "Each once, however often this is asked: to ask again after an error does no harm. What was sent again three"
        " times and died each time is quarantined: it is sent only by its id with `force`." + _ADMIN_NOTE
    ),
    "responses": responses(
        200,
        "What became of each.",
        schema_ref(RedriveResponse),
        {"outcomes": [{"id": _DEAD_LETTER_ID, "sent": "poise.documents/3/57"}], "more": 0, "dry_run": False},
        *(400, 401, 404, 408, 413, 415, 500, 503),
    ),
    "openapi_extra": _admin_body(RedriveRequest, {"tier": "retrieval", "error": "TerminalError", "newer_than": "2h"}),
}
PURGE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "purge_dead_letters",
    "summary": "Purge dead letters",
    "description": "For good: they are listed no more and cannot be sent again." + _ADMIN_NOTE,
    "responses": responses(
        200,
        "What is gone.",
        schema_ref(PurgeResponse),
        {"purged": [_DEAD_LETTER_ID], "more": 0, "dry_run": True},
        *(400, 401, 404, 408, 413, 415, 500, 503),
    ),
    "openapi_extra": _admin_body(PurgeRequest, {"older_than": "7d", "dry_run": True}),
}


def _health(name: str, summary: str, said: str, schema: dict[str, Any], example: object) -> dict[str, dict[str, Any]]:
    """By method."""
    common = {"tags": ["health"], "summary": summary, "description": said, "response_class": Response}
    return {
        "GET": common | {"operation_id": name, "responses": responses(200, "Yes.", schema, example, 503)},
        "HEAD": common | {"operation_id": f"head_{name}", "responses": responses(200, "Yes.", None, None, 503)},
    }


HEALTHZ: Final = _health(
    "healthz",
    "Whether the process lives",
    "Its event loop turns.",
    {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]},
    {"status": "ok"},
)
READYZ: Final = _health(
    "readyz",
    "Whether the gateway is ready",
    "503 names the conditions that are not met.",
    {
        "type": "object",
        "properties": {
            "ready": {"const": True},
            "checks": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
        "required": ["ready", "checks"],
    },
    {"ready": True, "checks": {"started": True, "broker": True, "http": True}},
)
