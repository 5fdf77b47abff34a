"""Documents: put into the log from which every index is made, and taken out of it again."""

import asyncio
import time
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Final

from fastapi import Request, Response
from pydantic import Field, TypeAdapter, ValidationError

from poise.contracts import Document, Epoch, FieldError, Message
from poise.contracts.document import DocumentId, Format, Source, Text
from poise.contracts.json_bounds import check_value_count
from poise.contracts.topics import DOCUMENTS
from poise.errors import InvalidMessageError
from poise.kafka.logs import Logs
from poise.kafka.record import Position
from poise.rpc.message_producer import MessageProducer
from poise.telemetry import SpanKind, extract, semconv, span
from poise_services.gateway.body import read_json
from poise_services.gateway.problems import TooLargeError
from poise_services.gateway.request_options import RequestOptions
from poise_services.gateway.settings import GatewaySettings

MAX_DOCUMENTS: Final = 1_000
"""Documents in one request."""
MAX_RECORD_BYTES: Final = 1_000_000
"""The largest document as it is written; with its key and headers it fits Kafka's default of 1 MiB."""


class NewDocument(Message):
    """A document as a client gives it."""

    kind: ClassVar[str] = "new-document/1"

    id: DocumentId
    """What it is known by: the same id again replaces it."""
    text: Text
    source: Source | None = None
    """What a reader knows it by; absent = its id."""
    format: Format = "text"

    def document(self) -> Document:
        """The document as it is published."""
        return Document(text=self.text, source=self.source or self.id, format=self.format)


class DocumentPosition(Message):
    """Where a document landed in `poise.documents`."""

    kind: ClassVar[str] = "landed/1"

    id: str
    partition: int
    offset: int


class DocumentsAccepted(Message):
    """What was put into the log, and the epoch from which on it is found."""

    kind: ClassVar[str] = "accepted/1"

    epoch: str
    """Send it as `poise-min-epoch` with an ask, and the answer knows these documents."""
    documents: tuple[DocumentPosition, ...]


_DOCUMENT_LIST: Final = TypeAdapter(Annotated[list[NewDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)])
_ID: Final = TypeAdapter(DocumentId)


class DocumentEndpoints:
    """The door to `poise.documents`."""

    def __init__(self, logs: Logs, producer: MessageProducer, settings: GatewaySettings) -> None:
        self._logs = logs
        self._producer = producer
        self._limit = settings.max_documents_bytes

    async def put(self, request: Request) -> Response:
        """Answer `POST /v1/documents`: one document, or a list of them.

        Raises:
            InvalidMessageError: Body or headers are not what they must be.
            TooLargeError: The body, or a document, is larger than is taken.
            UnavailableError: The broker did not take them all; to send them again does no harm.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        given = parse_documents(await read_json(request, limit=self._limit))
        documents = {new.id: new.document() for new in given}
        with _span("POST", options):
            return await self._publish(documents.items())

    async def delete(self, request: Request) -> Response:
        """Answer `DELETE /v1/documents/{id}`. That there is such a document is not checked: a log is only written.

        Raises:
            InvalidMessageError: It is no id.
            UnavailableError: The broker did not take it.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        try:
            document_id = _ID.validate_python(request.path_params["id"])
        except ValidationError as error:
            raise _invalid(InvalidMessageError, "id", error.errors()[0]["msg"]) from error
        with _span("DELETE", options):
            return await self._publish([(document_id, None)])

    async def _publish(self, documents: Iterable[tuple[str, Document | None]]) -> Response:
        given = list(documents)
        topic_id = await self._logs.topic_id(DOCUMENTS.name)
        positions = await asyncio.gather(
            *(self._producer.publish(DOCUMENTS, document, key=document_id) for document_id, document in given)
        )
        accepted = DocumentsAccepted(
            epoch=_epoch(topic_id, positions, time.time()),
            documents=tuple(
                DocumentPosition(id=document_id, partition=at.partition, offset=at.offset)
                for (document_id, _), at in zip(given, positions, strict=True)
            ),
        )
        return Response(accepted.encode(), 202, media_type="application/json")


def parse_documents(body: bytes) -> Sequence[NewDocument]:
    several = body.removeprefix(BOM_UTF8).lstrip()[:1] == b"["
    try:
        check_value_count(body, "documents")
        found = (
            _DOCUMENT_LIST.validate_json(body.removeprefix(BOM_UTF8), strict=True, extra="forbid")
            if several
            else [NewDocument.parse(body, strict=True)]
        )
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error
    seen: set[str] = set()
    for number, new in enumerate(found):
        prefix = f"{number}." if several else ""
        if new.id in seen:
            raise _invalid(InvalidMessageError, f"{prefix}id", f"{new.id[:80]!r} is in the list twice")
        seen.add(new.id)
        if (size := len(new.document().encode())) > MAX_RECORD_BYTES:
            detail = f"is too long: the document takes {size} bytes, of {MAX_RECORD_BYTES} that it may"
            raise _invalid(TooLargeError, f"{prefix}text", detail)
    return found


def _invalid(kind: type[InvalidMessageError], field: str, detail: str) -> InvalidMessageError:
    return kind(f"{field}: {detail}", [FieldError(field=field, detail=detail)])


def _epoch(topic_id: str, positions: Iterable[Position], now: float) -> str:
    epoch = Epoch(topic_id)
    for at in positions:
        epoch = epoch.with_offset(at.partition, at.offset, now)
    return epoch.encode()


def _span(method: str, options: RequestOptions) -> span:
    attributes = {semconv.HTTP_METHOD: method, semconv.HTTP_ROUTE: "/v1/documents"}
    return span(semconv.INGEST, kind=SpanKind.SERVER, attributes=attributes, parent=extract(options.trace))
