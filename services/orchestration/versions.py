"""Versions: what the last version of each document says, as the log `poise.versions` has it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from poise.contracts import DocumentVersion, Envelope, EnvelopeError
from poise.contracts.topics import DOCUMENTS, VERSIONS
from poise.errors import PoiseError
from poise.messaging import Ends, Follower, Mesh, Record
from services.orchestration.settings import OrchestrationSettings

log = logging.getLogger(__name__)

KNOWN_WITHIN: Final = 2.0
"""Seconds within which the end of the log must be known and read, else nothing is said about it."""
SHARE: Final = 0.25
"""The share of the time until the deadline that this may take."""
AGAIN_AFTER: Final = 2.0
"""Seconds after which a log that could not be read is read again."""
LOOK_AGAIN: Final = 0.05
"""Seconds after which a log without new records is asked whether it was read to its end: compaction leaves gaps."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a document."""

    first: int
    """The version with which it began to say what it says."""
    version: int
    """The last one."""
    digest: str | None
    """Of what it says; None = it was deleted."""
    since: float
    """When it began to say it, unix seconds."""

    def says(self, version: int) -> bool:
        """Whether that version says what the last one does."""
        return self.first <= version <= self.version


@dataclass(slots=True)
class VersionMap:
    """What the records of `poise.versions` say, applied in the log's order. No clock, no IO."""

    topic_id: str
    """Kafka's id of the `poise.documents` that counts: versions of another one are passed over."""
    documents: dict[str, Known] = field(default_factory=dict)
    nexts: dict[int, int] = field(default_factory=dict)
    """By partition, the offset after the last record applied."""
    other: bool = False
    """Whether a record was of another `poise.documents`: it may have been made anew since."""

    def apply(self, records: Iterable[Record]) -> None:
        """Apply records, in the order of their offsets within each partition."""
        for record in records:
            self.nexts[record.partition] = record.offset + 1
            document = (record.key or b"").decode(errors="replace")
            try:
                said = DocumentVersion.parse(record.value or b"")
                version = Envelope.read(record.headers).doc_version
            except (ValidationError, EnvelopeError) as error:
                log.warning("%s is no document's version, its document counts as changed: %s", record.position, error)
                self.documents.pop(document, None)
                continue
            if said.documents != self.topic_id:
                self.other = True
            elif version is None:
                self.documents.pop(document, None)  # of what it says there is no telling which version that is
            else:
                self._apply(document, version, said.digest, record.timestamp)

    def _apply(self, document: str, version: int, digest: str | None, at: float) -> None:
        before = self.documents.get(document)
        if before is None:
            self.documents[document] = Known(version, version, digest, at)
        elif version <= before.version:
            return  # announced again, or late: the newer one was announced before
        elif digest == before.digest:
            self.documents[document] = Known(before.first, version, digest, before.since)
        else:
            self.documents[document] = Known(version, version, digest, at)

    def reached(self, ends: Mapping[int, int], follower: Follower) -> bool:
        """Whether everything before these offsets has been applied."""
        return all(max(self.nexts.get(number, 0), follower.position(number)) >= end for number, end in ends.items())


class Versions:
    """Follows all of `poise.versions`: `async with Versions(mesh) as versions`.

    Entered at once; the worker is not ready before the log was read to its end. While it cannot be read, `current` says
    so, and what rests on documents counts as changed.

    Raises:
        SetupError: No broker answers, or the topic is missing.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._map = VersionMap("")
        self._follower: Follower | None = None
        self._ends: Ends | None = None
        self._moved = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to follow."""
        async with AsyncExitStack() as stack:
            self._ends = await stack.enter_async_context(Ends(self._mesh.connection, VERSIONS.name))
            self._stack = stack.pop_all()
        self._following = asyncio.create_task(self._follow())
        self._mesh.ready_when("document versions", self._read_to_its_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Follow no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._stack.__aexit__(kind, error, traceback)

    def of(self, document: str) -> Known | None:
        """What is known of a document; None = nothing."""
        return self._map.documents.get(document)

    def deleted(self, document: str) -> bool:
        """Whether a document is known to be deleted."""
        known = self.of(document)
        return known is not None and known.digest is None

    @property
    def topic_id(self) -> str:
        """Kafka's id of the `poise.documents` whose versions these are."""
        return self._map.topic_id

    async def current(self, remaining: float) -> bool:
        """Come to know what stood in the log when this was called; False = that cannot be told.

        Args:
            remaining: Seconds until the deadline of who asks: of these it takes a share at most, for an answer can be
                had, or sent, without it.

        Why nothing that changed before is missed, however far this worker's reading is behind: a version is announced
        and acknowledged (1) before its first part is written (2) and before any index can show it (3). Who asks after 3
        asks after 1, so the end that is asked for here is beyond the announcement, and it is read when this returns.
        """
        try:
            async with asyncio.timeout(min(KNOWN_WITHIN, SHARE * remaining)):
                ends = await self._ends.now() if self._ends is not None else {}
                while self._follower is None or not self._map.reached(ends, self._follower):
                    await self._move()
        except (TimeoutError, PoiseError) as error:
            log.warning("which documents have changed cannot be told: %s", error or "no answer in time")
            return False
        return True

    def _read_to_its_end(self) -> bool:
        return self._follower is not None and self._map.reached(self._follower.ends, self._follower)

    async def _move(self) -> None:
        moved = self._moved
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await moved.wait()
        except TimeoutError:
            return

    async def _follow(self) -> None:
        while True:
            try:
                topic_id = await self._mesh.topic_id(DOCUMENTS.name)
                async with self._mesh.follow(VERSIONS.name) as follower:
                    # Both at once: whoever sees this follower sees a map that it alone has filled.
                    self._map, self._follower = VersionMap(topic_id), follower
                    await self._apply(follower)
            except Exception as error:  # noqa: BLE001 - whatever it is: until it is read again, nothing counts as fresh
                log.warning("%s cannot be read, trying again: %s", VERSIONS.name, error)
            finally:
                self._follower = None
            await asyncio.sleep(AGAIN_AFTER)

    async def _apply(self, follower: Follower) -> None:
        """Apply what comes, until `poise.documents` turns out to be another one."""
        async for records in follower:
            self._map.apply(records)
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
            if self._map.other:
                self._map.other = False
                if await self._mesh.topic_id(DOCUMENTS.name) != self._map.topic_id:
                    return


@asynccontextmanager
async def following(mesh: Mesh, settings: OrchestrationSettings) -> AsyncIterator[Versions | None]:
    """What documents say, where it matters: not without a cache to keep answers in."""
    if not (settings.cache.enabled and mesh.cache.configured):
        yield None
        return
    async with Versions(mesh) as versions:
        yield versions
