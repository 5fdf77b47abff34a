"""What becomes of documents: which the log has already, and, once published, when each is indexed or set aside."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from poise.contracts.document import Document, Manifest
from poise.contracts.envelope import KIND
from poise.contracts.topics import DOCUMENTS, PASSAGES, dead_topic
from poise.dead_letters import model
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Position, Record
from poise.worker.connection import MeshConnection

READ_WITHIN: Final = 300.0
"""Seconds; reading what the log has."""

_VERSION: Final = "poise-doc-version"
_DEAD: Final = dead_topic(DOCUMENTS.tier or "")


@dataclass(frozen=True, slots=True)
class Known:
    """The newest version of a document that the log has."""

    position: Position
    digest: bytes


def digest(document: Document) -> bytes:
    """What two equal documents have in common."""
    return hashlib.sha256(document.encode()).digest()


async def known(mesh: MeshConnection, ids: Collection[str]) -> dict[str, Known]:
    """Which of these documents the log has. One that was set aside as a dead letter since does not count.

    Raises:
        UnavailableError: The broker does not hand the log out.
    """
    latest: dict[str, Known | None] = {}
    async with mesh.logs.follow(DOCUMENTS.name) as follower:
        async for batch in follower.read_to_end(within=READ_WITHIN):
            for record in batch:
                id_ = (record.key or b"").decode(errors="replace")
                if id_ in ids:
                    found = _digest_of(record)
                    latest[id_] = None if found is None else Known(record.position, found)
    index = model.DeadLetterIndex(DOCUMENTS.tier or "")
    async with aclosing(mesh.logs.lookups.scan(_DEAD)) as records:
        async for record in records:
            index.add(record)
    dead = {letter.failed_at for letter in index.letters() if letter.redriven is None}
    return {id_: known for id_, known in latest.items() if known is not None and str(known.position) not in dead}


def _digest_of(record: Record) -> bytes | None:
    """The digest of the document in a record; None if it is deleted, or is not one."""
    if record.value is None:
        return None
    try:
        return digest(Document.parse(record.value))
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class Indexed:
    """A document can be found now."""

    id: str
    parts: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A document is a dead letter now."""

    id: str
    why: str


Outcome = Indexed | SetAside


class Stalled(Exception):  # noqa: N818 - it says how things stand, the caller decides whether that is an error
    """Nothing has happened for a while, and documents are still waited for."""


class Watch:
    """Watches what becomes of documents that are published from now on; `async with Watch(mesh) as watch`.

    Args:
        mesh: The connection.
    """

    def __init__(self, mesh: MeshConnection) -> None:
        self._readers = [
            LogReader(mesh.logs.access, topic, note, start="end")
            for topic, note in ((PASSAGES.name, self._note_passage), (_DEAD, self._note_dead))
        ]
        self._happened = asyncio.Event()
        self._waiting: dict[str, Position] = {}
        self._versions: dict[str, tuple[int, int]] = {}  # by document: the newest version that is complete, its parts
        self._set_aside: dict[str, str] = {}  # by place in the log: why
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        async with AsyncExitStack() as stack:
            for reader in self._readers:
                await stack.enter_async_context(reader)
                await reader.wait_until_open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no more."""
        await self._stack.aclose()

    @property
    def waiting(self) -> list[str]:
        """The documents that are still waited for."""
        return list(self._waiting)

    def expect(self, id_: str, position: Position) -> None:
        """Wait for a document that was published to this place."""
        self._waiting[id_] = position

    async def outcomes(self, patience: float) -> AsyncIterator[Outcome]:
        """What becomes of the expected documents, until it is known of all.

        Args:
            patience: Seconds in which nothing may happen in the index.

        Raises:
            Stalled: Nothing has happened for so long.
            SetupError: A topic cannot be read any more.
        """
        while True:
            for outcome in self._settled():
                del self._waiting[outcome.id]
                yield outcome
            if not self._waiting:
                return
            await self._something(patience)

    async def _something(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._readers[0].wait_until(self._happened.is_set)
        except TimeoutError as error:
            raise Stalled from error
        self._happened.clear()

    def _settled(self) -> list[Outcome]:
        settled: list[Outcome] = []
        for id_, position in self._waiting.items():
            version, parts = self._versions.get(id_, (-1, 0))
            if version >= position.offset:
                settled.append(Indexed(id_, parts))
            elif (why := self._set_aside.get(str(position))) is not None:
                settled.append(SetAside(id_, why))
        return settled

    def _note_passage(self, record: Record) -> None:
        self._happened.set()
        if record.value is None or record.header(KIND) != Manifest.kind:
            return
        manifest, version = Manifest.parse(record.value), record.int_header(_VERSION)
        if version is not None and version > self._versions.get(manifest.document, (-1, 0))[0]:
            self._versions[manifest.document] = (version, manifest.parts)

    def _note_dead(self, record: Record) -> None:
        self._happened.set()
        origin = record.header(model.ORIGIN)
        if origin is not None:
            self._set_aside[origin] = record.header(model.MESSAGE) or "no reason is given"
