"""The client: ask questions and ingest documents over Kafka, from any async program."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from random import SystemRandom
from types import TracebackType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from poise.contracts.ask import Answer, Ask, Caching
from poise.contracts.document import MAX_DOCUMENT_BYTES, Document, DocumentId
from poise.contracts.epoch import Epoch
from poise.contracts.fault import FieldError
from poise.contracts.feedback import Feedback, Thumb
from poise.contracts.message import ReplyT, Request
from poise.contracts.run_id import new_run_id
from poise.contracts.stream import Delta, Reset
from poise.contracts.topics import ASK_INTERACTIVE, DOCUMENTS, FEEDBACK, Lane
from poise.errors import (
    DeadlineExceededError,
    EncodingError,
    InvalidMessageError,
    UnavailableError,
)
from poise.kafka.record import Position
from poise.rpc.client import CallOptions
from poise.rpc.deadlines import limit_note
from poise.rpc.encoding import encode
from poise.settings import MeshSettings
from poise.worker.connection import MeshConnection

MAX_DOCUMENTS_IN_FLIGHT: Final = 32
"""Maximum number of documents in flight to the broker: each may have 1 MB."""

_RANDOM: Final = SystemRandom()
_ID: Final = TypeAdapter(DocumentId)


class Poise:
    """A client of the mesh; `async with Poise("127.0.0.1:9092") as poise: answer = await poise.ask("…")`.

    It sends to the public topic `poise.ask.interactive`, so it needs no gateway. One client serves any number of
    concurrent requests.

    Args:
        broker: Kafka's bootstrap servers, `host:port[,host:port…]`; None = from the settings.
        settings: All settings; None = read from the environment.

    Raises:
        SetupError: On entering: no broker answers, or the topics are missing.
    """

    def __init__(self, broker: str | None = None, *, settings: MeshSettings | None = None) -> None:
        loaded = settings or MeshSettings.load()
        # These settings are meant for a worker in the same environment, not for a client.
        overrides = {"redis_url": None, "spans": False, "admin_port": None, "broker": broker or loaded.broker}
        self.settings = loaded.model_copy(update=overrides)
        self._mesh: MeshConnection | None = None

    async def __aenter__(self) -> Self:
        """Connect. When this returns, replies can arrive."""
        mesh = MeshConnection(self.settings, tier="client")
        self._mesh = await mesh.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect, and cancel the calls in flight."""
        mesh, self._mesh = self._mesh, None
        if mesh is not None:
            await mesh.__aexit__(kind, error, traceback)

    @property
    def mesh(self) -> MeshConnection:
        """The underlying connection, for uses that this class does not cover.

        Raises:
            UnavailableError: The client is not connected.
        """
        if self._mesh is None:
            raise UnavailableError("the client is not connected: use it inside `async with`")
        return self._mesh

    async def ask(
        self,
        question: str,
        *,
        timeout: float = ASK_INTERACTIVE.deadlines.default,  # noqa: ASYNC109 - the deadline is sent with the message
        conversation: str | None = None,
        min_epoch: Epoch | str | None = None,
        cache: Caching | None = None,
        workflow: str | None = None,
    ) -> Answer:
        """Ask a question and wait for its answer.

        Args:
            question: At most 8 000 characters.
            timeout: Seconds; the deadline is sent with the question.
            conversation: Questions of one conversation are answered in order.
            min_epoch: The epoch that `ingest` returned, or an answer's epoch: the answer reflects the documents up to
                it.
            cache: "no-cache" = compute a new answer and cache it; "no-store" = neither read nor write the cache.
            workflow: The workflow that answers; `answer` by default.

        Raises:
            InvalidMessageError: The question is empty or too long, or the timeout is not positive.
            FaultError: The mesh answered with a fault.
            RunCancelledError: The run was cancelled.
            DeadlineExceededError: No answer arrived in time.
            NotAcknowledgedError: The broker did not acknowledge the question in time.
            UnavailableError: The broker refused the question, or replies cannot be read.
        """
        ask = _ask(question, timeout, conversation, cache, workflow)
        try:
            return await self.mesh.rpc.call(ask, _ask_options(timeout, conversation, min_epoch))
        except DeadlineExceededError as error:
            raise _deadline_exceeded(timeout) from error

    async def stream(
        self,
        question: str,
        *,
        timeout: float = ASK_INTERACTIVE.deadlines.default,  # noqa: ASYNC109 - the deadline is sent with the message
        conversation: str | None = None,
        min_epoch: Epoch | str | None = None,
        cache: Caching | None = None,
        workflow: str | None = None,
    ) -> AsyncGenerator[Delta | Reset | Answer]:
        """Ask a question and stream the answer as it is written; the last item is the `Answer`.

        A `Delta` adds text. The text is provisional until the answer: it is checked against its passages when it is
        complete, and a `Reset` retracts the text so far and gives the reason. Leaving the loop early cancels the
        question.

        Arguments and errors are those of `ask`; an error may follow text.
        """
        ask = _ask(question, timeout, conversation, cache, workflow)
        items = self.mesh.rpc.stream(ask, _ask_options(timeout, conversation, min_epoch))
        try:
            async with aclosing(items):
                async for item in items:
                    yield item
        except DeadlineExceededError as error:
            raise _deadline_exceeded(timeout) from error

    async def call(
        self,
        request: Request[ReplyT],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline is sent with the message
        lane: Lane = "interactive",
        key: str | None = None,
        run: str | None = None,
        step: str | None = None,
    ) -> ReplyT:
        """Call a tier and wait for its reply; the request's class determines the tier.

        Args:
            request: The request.
            timeout: Seconds; the lane's default by default. The deadline is sent with the request.
            lane: The traffic class.
            key: Requests with the same key are handled in order, if the tier's topics are ordered.
            run: The run that the request belongs to; a new one by default. With Redis, a step of a run is handled once:
                a repeated call gets the stored reply.
            step: A stable name of the step in its run; by default the request's kind without its version.

        Raises:
            InvalidMessageError: The timeout is not positive.
            FaultError: The tier answered with a fault.
            DeadlineExceededError: No reply arrived in time.
            NotAcknowledgedError: The broker did not acknowledge the request in time.
            UnavailableError: The broker refused the request, or no worker of the tier was ever started.
        """
        if timeout is not None and not timeout > 0:
            raise _invalid("timeout", f"must be a positive number of seconds, not {timeout}")
        options = CallOptions(
            run=run or new_run_id(time.time(), _RANDOM),
            step=step or request.kind.partition("/")[0],
            lane=lane,
            deadline=None if timeout is None else time.time() + timeout,
            key=key,
        )
        return await self.mesh.rpc.call(request, options)

    async def cancel(self, run_id: str, *, step: str | None = None) -> None:
        """Cancel a run, or one step of it, on the worker that runs it; see `RpcClient.cancel`.

        Cancelling the task of an `ask` does this automatically.

        Args:
            run_id: The run's id.
            step: The step's name; None = the whole run.

        Raises:
            InvalidMessageError: The id is not a valid run id.
            UnavailableError: The broker did not acknowledge the cancellation.
        """
        try:
            await self.mesh.rpc.cancel(run_id, step=step)
        except ValidationError as error:
            raise InvalidMessageError.of(error) from error

    async def feedback(
        self,
        run_id: str,
        *,
        thumb: Thumb | None = None,
        rating: int | None = None,
        correction: str | None = None,
        comment: str | None = None,
        id_: str | None = None,
    ) -> None:
        """Send a person's feedback on an answer; at least one of thumb, rating and correction.

        Args:
            run_id: The answer's `run_id`.
            thumb: "up" or "down".
            rating: 1 (worst) to 5 (best).
            correction: What the answer should have been.
            comment: Any other text.
            id_: Feedback with the same id on the same run replaces earlier feedback; by default there is one for each
                run.

        Raises:
            InvalidMessageError: The feedback is empty or invalid, or the run id is not valid.
            UnavailableError: The broker did not acknowledge it; sending it again is safe.
        """
        try:
            feedback = Feedback(
                run_id=run_id, id=id_, thumb=thumb, rating=rating, correction=correction, comment=comment
            )
        except ValidationError as error:
            raise InvalidMessageError.of(error) from error
        await self.mesh.producer.publish(FEEDBACK, feedback, key=run_id)

    async def ingest(self, documents: Mapping[str, Document | str]) -> Epoch:
        """Ingest documents by their ids; a document with an existing id replaces it.

        When this returns the documents are published, but not yet searchable: retrieval splits and embeds them
        asynchronously. Pass the epoch to `ask` to wait for that.

        Args:
            documents: By id; a plain text has its id as its source.

        Returns:
            The epoch from which an index contains them all.

        Raises:
            InvalidMessageError: An id or a document is invalid; nothing was published.
            UnavailableError: The broker did not acknowledge all of them; ingesting them again is safe.
        """
        ready = {id_: _document(id_, document) for id_, document in documents.items()}
        positions: list[Position] = []
        ids = iter(ready)
        while chunk := [id_ for id_, _ in zip(ids, range(MAX_DOCUMENTS_IN_FLIGHT), strict=False)]:
            positions += await asyncio.gather(*(self.put(id_, ready[id_]) for id_ in chunk))
        return await self.epoch_of(positions)

    async def put(self, id_: str, document: Document) -> Position:
        """Publish one document and return its position in the log; see `ingest`."""
        _check(id_, document)
        return await self.mesh.producer.publish(DOCUMENTS, document, key=id_)

    async def delete(self, id_: str) -> Epoch:
        """Delete a document from the corpus. Whether it exists is not checked: a tombstone is published.

        Returns:
            The epoch from which an index no longer contains it.

        Raises:
            InvalidMessageError: The id is invalid.
            UnavailableError: The broker did not acknowledge the tombstone.
        """
        _check(id_)
        return await self.epoch_of([await self.mesh.producer.publish(DOCUMENTS, None, key=id_)])

    async def epoch_of(self, positions: Iterable[Position]) -> Epoch:
        """Return the epoch of an index that has the documents at these positions of `poise.documents`."""
        topic_id = await self.mesh.logs.topic_id(DOCUMENTS.name)
        return Epoch.of_published(topic_id, ((at.partition, at.offset) for at in positions), time.time())


def _ask(question: str, seconds: float, conversation: str | None, cache: Caching | None, workflow: str | None) -> Ask:
    if not seconds > 0:
        raise _invalid("timeout", f"must be a positive number of seconds, not {seconds}")
    try:
        return Ask(question=question, conversation=conversation, cache=cache, workflow=workflow)
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error


def _ask_options(seconds: float, conversation: str | None, min_epoch: Epoch | str | None) -> CallOptions:
    return CallOptions(
        step="ask",
        topic=ASK_INTERACTIVE,
        key=conversation,
        deadline=time.time() + seconds,
        min_epoch=min_epoch.encode() if isinstance(min_epoch, Epoch) else min_epoch,
    )


def _deadline_exceeded(seconds: float) -> DeadlineExceededError:
    within = min(seconds, ASK_INTERACTIVE.deadlines.longest)
    return DeadlineExceededError(f"no answer within {within:g} s{limit_note(seconds, ASK_INTERACTIVE)}")


def _document(id_: str, document: Document | str) -> Document:
    _check(id_)
    if isinstance(document, str):
        try:
            document = Document(text=document, source=id_)
        except ValidationError as error:
            invalid = InvalidMessageError.of(error)
            raise InvalidMessageError(f"document {id_[:80]!r}: {invalid}", invalid.errors) from error
    _check(id_, document)
    return document


def _check(id_: str, document: Document | None = None) -> None:
    try:
        _ID.validate_python(id_)
    except ValidationError as error:
        raise _invalid("id", f"{id_[:80]!r}: {error.errors()[0]['msg']}") from error
    if document is None:
        return
    try:
        size = len(encode(document))
    except EncodingError as error:
        raise InvalidMessageError(f"document {id_[:80]!r}: {error}", error.errors) from error
    if size > MAX_DOCUMENT_BYTES:
        raise _invalid("text", f"document {id_[:80]!r} takes {size} bytes; the limit is {MAX_DOCUMENT_BYTES}")


def _invalid(field: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{field}: {detail}", [FieldError(field=field, detail=detail)])
