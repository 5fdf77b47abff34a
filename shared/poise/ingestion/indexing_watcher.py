"""Waits until published documents are indexed or become dead letters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from poise.contracts.document import Manifest
from poise.contracts.headers import DEAD_MESSAGE, DOC_VERSION, KIND, ORIGIN
from poise.contracts.topics import DOCUMENTS, PASSAGES, dead_letter_topic_name
from poise.errors import UnavailableError
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Position, Record
from poise.worker.connection import MeshConnection

_DEAD_TOPIC: Final = dead_letter_topic_name(DOCUMENTS.tier or "")


@dataclass(frozen=True, slots=True)
class Indexed:
    """A search can find the document."""

    id: str
    passages: int


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The document is a dead letter."""

    id: str
    reason: str


IndexingOutcome = Indexed | DeadLettered


class IndexingStalledError(UnavailableError):
    """Nothing was indexed or dead-lettered within the idle timeout, and documents are still pending."""


class IndexingWatcher:
    """Reports the outcome of documents published after it was opened; `async with IndexingWatcher(mesh) as watcher`.

    Args:
        mesh: The connection.
    """

    def __init__(self, mesh: MeshConnection) -> None:
        self._readers = [
            LogReader(mesh.logs.access, topic, note, start="end")
            for topic, note in ((PASSAGES.name, self._note_passage), (_DEAD_TOPIC, self._note_dead_letter))
        ]
        self._activity = asyncio.Event()
        self._pending: dict[str, Position] = {}
        self._versions: dict[
            str, tuple[int, int]
        ] = {}  # by document: the newest complete version, its number of passages
        self._dead_letters: dict[str, str] = {}  # by position in `poise.documents`: the reason
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start reading at the current end of both topics."""
        async with AsyncExitStack() as stack:
            for reader in self._readers:
                await stack.enter_async_context(reader)
                await reader.wait_until_open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop reading."""
        await self._stack.aclose()

    @property
    def pending(self) -> list[str]:
        """The ids of the documents without an outcome."""
        return list(self._pending)

    def expect(self, id_: str, position: Position) -> None:
        """Wait for the document that was published at this position."""
        self._pending[id_] = position

    async def outcomes(self, idle_timeout: float) -> AsyncIterator[IndexingOutcome]:
        """Yield the outcome of each expected document; end when none is pending.

        Args:
            idle_timeout: Seconds to wait without any activity in the index.

        Raises:
            IndexingStalledError: There was no activity for that long.
            SetupError: A topic can no longer be read.
        """
        while True:
            for outcome in self._settled():
                del self._pending[outcome.id]
                yield outcome
            if not self._pending:
                return
            await self._wait_for_activity(idle_timeout)

    async def _wait_for_activity(self, idle_timeout: float) -> None:
        try:
            async with asyncio.timeout(idle_timeout):
                await self._readers[0].wait_until(self._activity.is_set)
        except TimeoutError as error:
            message = f"nothing was indexed for {idle_timeout:g} s, and {len(self._pending)} documents are pending"
            raise IndexingStalledError(message) from error
        self._activity.clear()

    def _settled(self) -> list[IndexingOutcome]:
        settled: list[IndexingOutcome] = []
        for id_, position in self._pending.items():
            version, passages = self._versions.get(id_, (-1, 0))
            if version >= position.offset:
                settled.append(Indexed(id_, passages))
            elif (reason := self._dead_letters.get(str(position))) is not None:
                settled.append(DeadLettered(id_, reason))
        return settled

    def _note_passage(self, record: Record) -> None:
        self._activity.set()
        if record.value is None or record.header(KIND) != Manifest.kind:
            return
        manifest, version = Manifest.parse(record.value), record.int_header(DOC_VERSION)
        if version is not None and version > self._versions.get(manifest.document, (-1, 0))[0]:
            self._versions[manifest.document] = (version, manifest.parts)

    def _note_dead_letter(self, record: Record) -> None:
        self._activity.set()
        origin = record.header(ORIGIN)
        if origin is not None:
            self._dead_letters[origin] = record.header(DEAD_MESSAGE) or "no reason is given"
