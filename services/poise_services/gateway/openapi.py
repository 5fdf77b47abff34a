"""The OpenAPI description of each endpoint."""

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
Ask questions about a corpus, add documents to it, and give feedback on answers. Every answer names the rung of the
ladder that it came from, and cites its sources. Every error is `application/problem+json` (RFC 9457) and names the
invalid field or header. Optional fields without a value are absent from responses, never null; a client must ignore
unknown fields.
"""
VERSION: Final = "1"
"""The version of the API, as in its paths."""

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
    "correction": "pass does nothing; it is a placeholder where the grammar requires a statement.",
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
    documented = responses(
        200,
        "The answer.",
        schema_ref(Answer),
        _ANSWER_EXAMPLE,
        *(400, 408, 413, 415, 429, 499, 500, 503, 504),
        headers=(RUN, TRACEPARENT),
    )
    documented[200]["content"][EVENT_STREAM] = {"schema": {"type": "string"}, "example": _EVENTS_EXAMPLE}
    return documented


ASK: Final[dict[str, Any]] = {
    "operation_id": "ask",
    "tags": ["asks"],
    "summary": "Ask a question",
    "description": (
        "If `Accept` prefers `text/event-stream` to `application/json`, the answer is streamed while it is generated:"
        " `delta` adds text, `reset` discards the text so far and gives the reason, `end` ends the text, and `answer`"
        " is the whole answer. Text is provisional until `end`. An error after the first event is the event `fault`."
    ),
    "responses": _ask_responses(),
    "openapi_extra": {
        "parameters": header_parameters(DEADLINE, MIN_EPOCH, "cache-control", "accept-language", TRACEPARENT),
        "requestBody": request_body(schema_ref(Ask), {"question": "What does the pass statement do?"}),
    },
}
PUBLISH_DOCUMENTS: Final[dict[str, Any]] = {
    "operation_id": "put_documents",
    "tags": ["documents"],
    "summary": "Publish documents",
    "description": (
        f"One document, or a list of up to {MAX_DOCUMENTS} with unique ids. A document replaces the previous one with"
        " its id. More than 1,000,000 bytes of UTF-8 are too large (413)."
    ),
    "status_code": 202,
    "responses": responses(
        202,
        "The documents are in the log.",
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
    "summary": "Delete a document",
    "description": "Accepted whether or not the document exists.",
    "status_code": 202,
    "responses": responses(
        202, "The deletion is in the log.", schema_ref(DocumentsAccepted), _ACCEPTED_EXAMPLE, *(400, 429, 500, 503, 504)
    ),
    "openapi_extra": {"parameters": [DOCUMENT_ID, *header_parameters(DEADLINE, TRACEPARENT)]},
}
GIVE_FEEDBACK: Final[dict[str, Any]] = {
    "operation_id": "give_feedback",
    "tags": ["feedback"],
    "summary": "Give feedback on an answer",
    "description": (
        "At least one of a thumb, a rating from 1 (worst) to 5 (best), and a correction. Feedback replaces earlier"
        " feedback with the same `id` on the same run, so retries are safe. Without an `id`, there is one feedback per"
        " run: if several people may give feedback, send an `id` per person. Accepted whether or not the run exists: it"
        " may not have ended yet."
    ),
    "status_code": 202,
    "responses": responses(
        202,
        "The feedback is in the log.",
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
        "The outcome of a run, and its record with steps, passages and the draw of the variant; or that the run is"
        " still running. If it ended without an answer, `outcome` and `fault` give the reason."
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
    "description": "The run's client receives 499. Accepted for any id of a run that may be running.",
    "status_code": 202,
    "responses": responses(
        202,
        "The cancellation was sent to all workers.",
        schema_ref(CancelResponse),
        {"run_id": _RUN_ID},
        404,
        429,
        500,
        503,
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
    " Disabled (404) unless the setting `admin_token` is set; requires `Authorization: Bearer` with that token."
)
_ADMIN_ROUTE: Final[dict[str, Any]] = {"tags": ["admin"]}
_ADMIN_SECURITY: Final[dict[str, Any]] = {"security": [{"admin": []}]}


def _admin_body(model: type[BaseModel], example: object) -> dict[str, Any]:
    return _ADMIN_SECURITY | {"requestBody": request_body(schema_ref(model), example)}


LIST_DEAD_LETTERS: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "list_dead_letters",
    "summary": "List dead letters",
    "description": "Messages that could not be handled, oldest first. Ages have the form `30s`, `10m`, `2h`, `7d`."
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
    "description": "With key, headers, body, error and traceback." + _ADMIN_NOTE,
    "responses": responses(
        200, "The dead letter.", schema_ref(DeadLetterDetail), _DEAD_LETTER_EXAMPLE, *(401, 404, 500, 503)
    ),
    "openapi_extra": _ADMIN_SECURITY
    | {
        "parameters": [
            path_parameter("tier", {"type": "string"}, "The first part of the id."),
            path_parameter("partition", {"type": "integer"}, "The second part."),
            path_parameter("offset", {"type": "integer"}, "The third part."),
        ]
    },
}
REDRIVE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "redrive_dead_letters",
    "summary": "Redrive dead letters",
    "description": (
        "Sends each dead letter again, once: retries after an error are safe. A message that failed again after three"
        " redrives is quarantined; redrive it by its id with `force`." + _ADMIN_NOTE
    ),
    "responses": responses(
        200,
        "The result for each dead letter.",
        schema_ref(RedriveResponse),
        {"outcomes": [{"id": _DEAD_LETTER_ID, "sent": "poise.documents/3/57"}], "more": 0, "dry_run": False},
        *(400, 401, 404, 408, 413, 415, 500, 503),
    ),
    "openapi_extra": _admin_body(RedriveRequest, {"tier": "retrieval", "error": "TerminalError", "newer_than": "2h"}),
}
PURGE: Final[dict[str, Any]] = _ADMIN_ROUTE | {
    "operation_id": "purge_dead_letters",
    "summary": "Purge dead letters",
    "description": "Permanently: purged dead letters are no longer listed and cannot be redriven." + _ADMIN_NOTE,
    "responses": responses(
        200,
        "The purged dead letters.",
        schema_ref(PurgeResponse),
        {"purged": [_DEAD_LETTER_ID], "more": 0, "dry_run": True},
        *(400, 401, 404, 408, 413, 415, 500, 503),
    ),
    "openapi_extra": _admin_body(PurgeRequest, {"older_than": "7d", "dry_run": True}),
}


def _health(
    name: str, summary: str, description: str, schema: dict[str, Any], example: object
) -> dict[str, dict[str, Any]]:
    """Return the descriptions by method."""
    common = {"tags": ["health"], "summary": summary, "description": description, "response_class": Response}
    return {
        "GET": common | {"operation_id": name, "responses": responses(200, "Yes.", schema, example, 503)},
        "HEAD": common | {"operation_id": f"head_{name}", "responses": responses(200, "Yes.", None, None, 503)},
    }


HEALTHZ: Final = _health(
    "healthz",
    "Liveness",
    "200 = the event loop responds.",
    {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]},
    {"status": "ok"},
)
READYZ: Final = _health(
    "readyz",
    "Readiness",
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
