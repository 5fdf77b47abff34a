"""`POST /v1/feedback`: publishes a person's feedback on an answer; evaluation joins it to its run."""

import time
from typing import ClassVar, Final

from fastapi import Request, Response
from pydantic import ValidationError

from poise.contracts import Feedback, Message
from poise.contracts.topics import DAY, FEEDBACK
from poise.errors import InvalidMessageError
from poise.rpc.message_producer import MessageProducer
from poise.telemetry import SpanKind, extract, semconv, span
from poise_services.gateway.body import read_json
from poise_services.gateway.problems import NotFoundError
from poise_services.gateway.request_options import RequestOptions
from poise_services.gateway.runs import RECORD_RETENTION, may_have_record

MAX_FEEDBACK_BYTES: Final = 256 * 1024
"""Maximum size of the body: correction and comment of maximum length, each character escaped as `\\uXXXX`."""


class FeedbackAccepted(Message):
    """Feedback that was published."""

    kind: ClassVar[str] = "noted/1"

    run_id: str
    id: str
    """Its id within the run: later feedback with the same id replaces it."""


class FeedbackEndpoint:
    """Publishes to `poise.feedback`."""

    def __init__(self, producer: MessageProducer) -> None:
        self._producer = producer

    async def submit(self, request: Request) -> Response:
        """Answer `POST /v1/feedback`. The run is not looked up: it may not have ended yet.

        Raises:
            InvalidMessageError: The body or a header is invalid.
            NotFoundError: The run is older than the retention of records.
            UnavailableError: The broker did not accept it; retrying is safe.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        feedback = _parse(await read_json(request, limit=MAX_FEEDBACK_BYTES))
        run = feedback.run_id
        if not may_have_record(run, time.time()):
            raise NotFoundError(
                f"run {run}: outside the retention of records, which is {RECORD_RETENTION / DAY:g} days"
            )
        attributes = {semconv.HTTP_METHOD: "POST", semconv.HTTP_ROUTE: "/v1/feedback", semconv.RUN: run}
        parent = extract(options.trace)
        with span(semconv.FEEDBACK, kind=SpanKind.SERVER, attributes=attributes, parent=parent):
            await self._producer.publish(FEEDBACK, feedback, key=run)
        accepted = FeedbackAccepted(run_id=run, id=feedback.id or run)
        return Response(accepted.encode(), 202, media_type="application/json")


def _parse(body: bytes) -> Feedback:
    try:
        return Feedback.parse(body, strict=True)
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error
