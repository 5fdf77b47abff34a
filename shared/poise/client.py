"""The client: ask, and put documents into the corpus, over Kafka, from any async program."""

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
from poise.errors import DeadlineExceededError, EncodingError, InvalidMessageError, NotTakenError, UnavailableError
from poise.kafka.record import Position
from poise.rpc.client import CallOptions
from poise.rpc.deadlines import limit_note
from poise.rpc.encoding import encode
from poise.settings import MeshSettings
from poise.worker.connection import MeshConnection

MAX_DOCUMENTS_IN_FLIGHT: Final = 32
"""Documents that are on their way to the broker at most: each may be 1 MB."""

_RANDOM: Final = SystemRandom()
_ID: Final = TypeAdapter(DocumentId)


class Poise:
    """A client of the mesh; `async with Poise("127.0.0.1:9092") as poise: answer = await poise.ask("…")`.

    It asks by the public door, `poise.ask.interactive`, so it needs no gateway; one client serves any number of asks at
    once.

    Args:
        broker: Kafka's bootstrap servers, `host:port[,host:port…]`; None = as the settings say.
        settings: All settings; None = read from the environment.

    Raises:
        SetupError: On entering: no broker answers, or the topics are missing.
    """

    def __init__(self, broker: str | None = None, *, settings: MeshSettings | None = None) -> None:
        found = settings or MeshSettings.load()
        # What a worker in the same environment is told is not meant for a client beside it.
        own = {"redis_url": None, "spans": False, "admin_port": None, "broker": broker or found.broker}
        self.settings = found.model_copy(update=own)
        self._mesh: MeshConnection | None = None

    async def __aenter__(self) -> Self:
        """Connect; when this returns, an answer can arrive."""
        mesh = MeshConnection(self.settings, tier="client")
        self._mesh = await mesh.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; whoever still waits for an answer is cancelled."""
        mesh, self._mesh = self._mesh, None
        if mesh is not None:
            await mesh.__aexit__(kind, error, traceback)

    @property
    def mesh(self) -> MeshConnection:
        """The connection, for what this class has no word for.

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
        timeout: float = ASK_INTERACTIVE.deadlines.default,  # noqa: ASYNC109 - the deadline goes with the message
        conversation: str | None = None,
        min_epoch: Epoch | str | None = None,
        cache: Caching | None = None,
        workflow: str | None = None,
    ) -> Answer:
        """Ask a question and wait for its answer.

        Args:
            question: At most 8 000 characters.
            timeout: Seconds; the deadline crosses the mesh with the question.
            conversation: Asks of one conversation are answered in order.
            min_epoch: What `ingest` returned, or an answer's epoch: the answer knows the documents up to it.
            cache: "no-cache" = work the answer out anew, and keep it; "no-store" = neither look nor keep.
            workflow: The workflow that answers it; `answer` by default.

        Raises:
            InvalidMessageError: The question is empty or too long, or the timeout is not positive.
            FaultError: The mesh answered with a fault.
            RunCancelledError: Somebody cancelled the run.
            DeadlineExceededError: Nothing came in time.
            UnavailableError: The broker did not take the question.
        """
        ask = _ask(question, timeout, conversation, cache, workflow)
        try:
            return await self.mesh.rpc.call(
                ask,
                CallOptions(
                    step="ask",
                    topic=ASK_INTERACTIVE,
                    key=conversation,
                    deadline=time.time() + timeout,
                    min_epoch=min_epoch.encode() if isinstance(min_epoch, Epoch) else min_epoch,
                ),
            )
        except NotTakenError:
            raise
        except DeadlineExceededError as error:
            raise _deadline_exceeded(timeout) from error

    async def stream(
        self,
        question: str,
        *,
        timeout: float = ASK_INTERACTIVE.deadlines.default,  # noqa: ASYNC109 - the deadline goes with the message
        conversation: str | None = None,
        min_epoch: Epoch | str | None = None,
        cache: Caching | None = None,
        workflow: str | None = None,
    ) -> AsyncGenerator[Delta | Reset | Answer]:
        """Ask a question, and have the answer's words as they are written; the last item is the `Answer`.

        `Delta` adds words. They are provisional until the answer: it is checked against its passages when all of it is
        there, and a `Reset` takes back what came, and says why. To leave the loop early is to give the question up.

        Args and errors are those of `ask`; an error may come after words.
        """
        ask = _ask(question, timeout, conversation, cache, workflow)
        asked = self.mesh.rpc.stream(
            ask,
            CallOptions(
                step="ask",
                topic=ASK_INTERACTIVE,
                key=conversation,
                deadline=time.time() + timeout,
                min_epoch=min_epoch.encode() if isinstance(min_epoch, Epoch) else min_epoch,
            ),
        )
        try:
            async with aclosing(asked):
                async for item in asked:
                    yield item
        except NotTakenError:
            raise
        except DeadlineExceededError as error:
            raise _deadline_exceeded(timeout) from error

    async def call(
        self,
        request: Request[ReplyT],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline goes with the message
        lane: Lane = "interactive",
        key: str | None = None,
        run: str | None = None,
        step: str | None = None,
    ) -> ReplyT:
        """Call a tier and wait for its reply; the request's class says which tier answers.

        Args:
            request: What is asked.
            timeout: Seconds; the lane's default by default. The deadline crosses the mesh with the request.
            lane: Its traffic class.
            key: What orders it, where the tier's topics are ordered.
            run: The run it belongs to, a new one by default. With Redis, the same step of the same run is answered
                once: what is called again gets the stored reply.
            step: Its stable name inside the run; the request's kind without its version by default.

        Raises:
            InvalidMessageError: The timeout is not positive.
            FaultError: The tier answered with a fault.
            DeadlineExceededError: Nothing came in time.
            UnavailableError: The broker did not take the request, or no worker of the tier was ever started.
        """
        if timeout is not None and not timeout > 0:
            raise _invalid("timeout", f"must be a positive number of seconds, not {timeout}")
        return await self.mesh.rpc.call(
            request,
            CallOptions(
                run=run or new_run_id(time.time(), _RANDOM),
                step=step or request.kind.partition("/")[0],
                lane=lane,
                deadline=None if timeout is None else time.time() + timeout,
                key=key,
            ),
        )

    async def cancel(self, run_id: str, *, step: str | None = None) -> None:
        """Stop a run, or one step of it, on whichever worker it is; see `RpcClient.cancel`.

        An `ask` whose task is cancelled does this by itself.

        Args:
            run_id: The run's id.
            step: The step's name; None = the whole run.

        Raises:
            InvalidMessageError: It can be no run's id.
            UnavailableError: The broker did not take it.
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
        """Say what a person thought of an answer; at least one of thumb, rating and correction.

        Args:
            run_id: The answer's `run_id`.
            thumb: "up" or "down".
            rating: 1 (worst) to 5 (best).
            correction: What the answer should have been.
            comment: Anything else.
            id_: More of the same id on the same run replaces what was said; by default there is one for each run.

        Raises:
            InvalidMessageError: It says nothing, or something that it must not; or that can be no run's id.
            UnavailableError: The broker did not take it; to send it again does no harm.
        """
        try:
            said = Feedback(run_id=run_id, id=id_, thumb=thumb, rating=rating, correction=correction, comment=comment)
        except ValidationError as error:
            raise InvalidMessageError.of(error) from error
        await self.mesh.producer.publish(FEEDBACK, said, key=run_id)

    async def ingest(self, documents: Mapping[str, Document | str]) -> Epoch:
        """Put documents into the corpus, each by its id; the same id again replaces a document.

        When this returns they are published, not yet found: retrieval splits and embeds them in its own time. Give the
        epoch to `ask`, and it waits for that.

        Args:
            documents: By id; a mere text is known by its id.

        Returns:
            The epoch at which an index knows them all.

        Raises:
            InvalidMessageError: An id or a document is not what it must be; nothing was published.
            UnavailableError: The broker did not take them all; to ingest them again does no harm.
        """
        ready = {id_: _document(id_, given) for id_, given in documents.items()}
        positions: list[Position] = []
        ids = iter(ready)
        while chunk := [id_ for id_, _ in zip(ids, range(MAX_DOCUMENTS_IN_FLIGHT), strict=False)]:
            positions += await asyncio.gather(*(self.put(id_, ready[id_]) for id_ in chunk))
        return await self.epoch_of(positions)

    async def put(self, id_: str, document: Document) -> Position:
        """Publish one document, and return where it landed; see `ingest`."""
        _check(id_, document)
        return await self.mesh.producer.publish(DOCUMENTS, document, key=id_)

    async def delete(self, id_: str) -> Epoch:
        """Take a document out of the corpus. That there is one is not checked: a log is only written.

        Returns:
            The epoch at which an index no longer knows it.

        Raises:
            InvalidMessageError: It is no id.
            UnavailableError: The broker did not take it.
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


def _deadline_exceeded(seconds: float) -> DeadlineExceededError:
    within = min(seconds, ASK_INTERACTIVE.deadlines.longest)
    return DeadlineExceededError(f"no answer within {within:g} s{limit_note(seconds, ASK_INTERACTIVE)}")


def _document(id_: str, given: Document | str) -> Document:
    _check(id_)
    if isinstance(given, str):
        try:
            given = Document(text=given, source=id_)
        except ValidationError as error:
            found = InvalidMessageError.of(error)
            raise InvalidMessageError(f"document {id_[:80]!r}: {found}", found.errors) from error
    _check(id_, given)
    return given


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
        raise _invalid("text", f"document {id_[:80]!r} takes {size} bytes, of {MAX_DOCUMENT_BYTES} that it may")


def _invalid(field: str, detail: str) -> InvalidMessageError:
    return InvalidMessageError(f"{field}: {detail}", [FieldError(field=field, detail=detail)])
