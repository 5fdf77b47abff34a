"""`POST` and `DELETE /v1/documents`: publishes documents and deletions to `poise.documents`."""

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
from poise.rpc.message_producer import MessageProducer
from poise.telemetry import SpanKind, extract, semconv, span
from poise_services.gateway.body import read_json
from poise_services.gateway.problems import RequestTooLargeError
from poise_services.gateway.request_options import RequestOptions
from poise_services.gateway.settings import GatewaySettings

MAX_DOCUMENTS: Final = 1_000
"""Maximum number of documents per request."""
MAX_RECORD_BYTES: Final = 1_000_000
"""Maximum size of an encoded document; with key and headers it fits Kafka's default limit of 1 MiB."""


class NewDocument(Message):
    """A document in a request."""

    kind: ClassVar[str] = "new-document/1"

    id: DocumentId
    """Identifies the document: a later document with the same id replaces it."""
    text: Text
    source: Source | None = None
    """The name that citations show; absent = the id."""
    format: Format = "text"

    def document(self) -> Document:
        """Return the document as published."""
        return Document(text=self.text, source=self.source or self.id, format=self.format)


class DocumentPosition(Message):
    """The position of a document in `poise.documents`."""

    kind: ClassVar[str] = "landed/1"

    id: str
    partition: int
    offset: int


class DocumentsAccepted(Message):
    """Documents that were published, and the epoch at which a search finds them."""

    kind: ClassVar[str] = "accepted/1"

    epoch: str
    """An ask with this value as `poise-min-epoch` is answered from an index that has these documents."""
    documents: tuple[DocumentPosition, ...]


_DOCUMENT_LIST: Final = TypeAdapter(Annotated[list[NewDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)])
_ID: Final = TypeAdapter(DocumentId)


class DocumentEndpoints:
    """Publishes to `poise.documents`."""

    def __init__(self, logs: Logs, producer: MessageProducer, settings: GatewaySettings) -> None:
        self._logs = logs
        self._producer = producer
        self._limit = settings.max_documents_bytes

    async def publish(self, request: Request) -> Response:
        """Answer `POST /v1/documents`: one document, or a list.

        Raises:
            InvalidMessageError: The body or a header is invalid.
            RequestTooLargeError: The body or a document is too large.
            UnavailableError: The broker did not accept all of them; retrying is safe.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        requested = parse_documents(await read_json(request, limit=self._limit))
        documents = {new.id: new.document() for new in requested}
        with _span("POST", options):
            return await self._publish(documents.items())

    async def delete(self, request: Request) -> Response:
        """Answer `DELETE /v1/documents/{id}`. Whether the document exists is not checked.

        Raises:
            InvalidMessageError: The id is invalid.
            UnavailableError: The broker did not accept the deletion.
        """
        options = RequestOptions.from_headers(request.headers.raw, time.time())
        try:
            document_id = _ID.validate_python(request.path_params["id"])
        except ValidationError as error:
            raise _invalid(InvalidMessageError, "id", error.errors()[0]["msg"]) from error
        with _span("DELETE", options):
            return await self._publish([(document_id, None)])

    async def _publish(self, documents: Iterable[tuple[str, Document | None]]) -> Response:
        entries = list(documents)
        topic_id = await self._logs.topic_id(DOCUMENTS.name)
        positions = await asyncio.gather(
            *(self._producer.publish(DOCUMENTS, document, key=document_id) for document_id, document in entries)
        )
        epoch = Epoch.of_published(
            topic_id, ((position.partition, position.offset) for position in positions), time.time()
        )
        accepted = DocumentsAccepted(
            epoch=epoch.encode(),
            documents=tuple(
                DocumentPosition(id=document_id, partition=position.partition, offset=position.offset)
                for (document_id, _), position in zip(entries, positions, strict=True)
            ),
        )
        return Response(accepted.encode(), 202, media_type="application/json")


def parse_documents(body: bytes) -> Sequence[NewDocument]:
    """Parse the body of `POST /v1/documents`.

    Raises:
        InvalidMessageError: It is invalid, or two documents have the same id.
        RequestTooLargeError: A document is too large.
    """
    is_list = body.removeprefix(BOM_UTF8).lstrip()[:1] == b"["
    try:
        check_value_count(body, "documents")
        documents = (
            _DOCUMENT_LIST.validate_json(body.removeprefix(BOM_UTF8), strict=True, extra="forbid")
            if is_list
            else [NewDocument.parse(body, strict=True)]
        )
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error
    seen: set[str] = set()
    for index, new in enumerate(documents):
        prefix = f"{index}." if is_list else ""
        if new.id in seen:
            raise _invalid(InvalidMessageError, f"{prefix}id", f"{new.id[:80]!r} is in the list twice")
        seen.add(new.id)
        if (size := len(new.document().encode())) > MAX_RECORD_BYTES:
            detail = f"is too long: the document takes {size} bytes, the limit is {MAX_RECORD_BYTES}"
            raise _invalid(RequestTooLargeError, f"{prefix}text", detail)
    return documents


def _invalid(error_type: type[InvalidMessageError], field: str, detail: str) -> InvalidMessageError:
    return error_type(f"{field}: {detail}", [FieldError(field=field, detail=detail)])


def _span(method: str, options: RequestOptions) -> span:
    attributes = {semconv.HTTP_METHOD: method, semconv.HTTP_ROUTE: "/v1/documents"}
    return span(semconv.INGEST, kind=SpanKind.SERVER, attributes=attributes, parent=extract(options.trace))
