"""Document versions: the content digest of each document's last version, read from the log `poise.versions`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

from poise.contracts import DocumentVersion, Envelope
from poise.contracts.topics import DOCUMENTS, VERSIONS
from poise.errors import PoiseError
from poise.kafka.end_offsets import EndOffsets
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Record
from poise.text.error_text import error_message
from poise.worker.connection import MeshConnection
from poise_services.orchestration.settings import OrchestrationSettings

log = logging.getLogger(__name__)

SYNC_TIMEOUT: Final = 2.0
"""Maximum seconds to look up the end of the log and read up to it; after that the changes are unknown."""
MAX_TIME_SHARE: Final = 0.25
"""Maximum fraction of the time until the deadline that `sync` takes."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """The current version and content of a document."""

    content_since: int
    """The first version with the current content."""
    version: int
    """The last version."""
    digest: str | None
    """Digest of the current content; None = the document was deleted."""
    changed_at: float
    """When the content last changed, unix seconds."""

    def same_content(self, version: int) -> bool:
        """Return whether a version has the current content."""
        return self.content_since <= version <= self.version


@dataclass(slots=True)
class VersionMap:
    """The documents' states, from the records of `poise.versions` applied in the log's order. No clock, no IO."""

    topic_id: str
    """Kafka's id of the current `poise.documents`."""
    documents: dict[str, DocumentState] = field(default_factory=dict)
    other_topics: dict[str, dict[str, DocumentState]] = field(default_factory=dict)
    """By the id of another `poise.documents`, an earlier or a later one."""
    topic_may_have_changed: bool = False
    """Whether a record named another topic id since `switch`: `poise.documents` may have been recreated."""

    def apply(self, record: Record) -> None:
        """Apply a record, in the order of the offsets within each partition.

        Raises:
            ValueError: It is not a document version; its document counts as changed.
        """
        document = (record.key or b"").decode(errors="replace")
        try:
            body, version = _parse(record)
        except Exception:
            self.documents.pop(document, None)
            raise
        documents = self.documents
        if body.documents != self.topic_id:
            self.topic_may_have_changed = True
            documents = self.other_topics.setdefault(body.documents, {})
        _apply_state(documents, document, DocumentState(version, version, body.digest, record.timestamp))

    def switch(self, topic_id: str) -> None:
        """Use this `poise.documents` from now on."""
        self.topic_may_have_changed = False
        if topic_id != self.topic_id:
            self.topic_id = topic_id
            self.documents = self.other_topics.pop(topic_id, {})
            self.other_topics.clear()


def _parse(record: Record) -> tuple[DocumentVersion, int]:
    body = DocumentVersion.parse(record.value or b"")
    version = Envelope.read(record.headers).doc_version
    if version is None:
        raise ValueError("header poise-doc-version is missing")
    return body, version


def _apply_state(documents: dict[str, DocumentState], document: str, state: DocumentState) -> None:
    previous = documents.get(document)
    if previous is None:
        documents[document] = state
    elif state.version <= previous.version:
        return  # a duplicate, or an older version that was announced late
    elif state.digest == previous.digest:
        documents[document] = replace(previous, version=state.version)
    else:
        documents[document] = state


class DocumentVersions:
    """Follows all of `poise.versions`: `async with DocumentVersions(mesh) as versions`.

    Entering does not wait for the log; the worker is not ready until the log has been read to its end. While the log
    cannot be read, `sync` returns False, and every document counts as changed.

    Raises:
        MissingTopicError: There is no `poise.documents`.
        UnavailableError: The broker does not answer.
    """

    def __init__(self, mesh: MeshConnection) -> None:
        self._mesh = mesh
        self._map = VersionMap("")
        self._reader = LogReader(mesh.logs.access, VERSIONS.name, self._apply, on_reset=self._reset)
        self._ends = EndOffsets(mesh.connection, VERSIONS.name)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start to follow the log."""
        async with AsyncExitStack() as stack:
            self._map = VersionMap(await self._mesh.logs.topic_id(DOCUMENTS.name))
            await stack.enter_async_context(self._ends)
            await stack.enter_async_context(self._reader)
            self._mesh.topic_identities.watch(DOCUMENTS.name, self._switch, known=self._map.topic_id)
            stack.callback(self._mesh.topic_identities.unwatch, DOCUMENTS.name, self._switch)
            self._stack = stack.pop_all()
        self._mesh.ready_when("document versions", self._reader.reached_opening_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop following the log."""
        await self._stack.__aexit__(kind, error, traceback)

    def state_of(self, document: str) -> DocumentState | None:
        """Return the state of a document; None = unknown."""
        return self._map.documents.get(document)

    def is_deleted(self, document: str) -> bool:
        """Return whether a document is known to be deleted."""
        state = self.state_of(document)
        return state is not None and state.digest is None

    @property
    def topic_id(self) -> str:
        """Kafka's id of the `poise.documents` that the versions belong to."""
        return self._map.topic_id

    async def sync(self, remaining: float) -> bool:
        """Read the log up to its end at the time of the call.

        Args:
            remaining: Seconds until the caller's deadline. Only a fraction of them is used, because an answer can be
                produced without the versions.

        Returns:
            False if the log could not be read to its end: which documents have changed is unknown.

        No earlier change is missed, however far this worker lags: a version is announced and acknowledged (1) before
        its first passage is written (2) and before any index can show it (3). A call after 3 is after 1, so the end of
        the log that is looked up here is beyond the announcement, which has been read when this method returns.
        """
        try:
            async with asyncio.timeout(min(SYNC_TIMEOUT, MAX_TIME_SHARE * remaining)):
                ends = await self._ends.fetch()
                await self._reader.wait_until(lambda: self._reader.reading and self._reader.reached(ends))
                if self._map.topic_may_have_changed:
                    self._switch(await self._mesh.logs.topic_id(DOCUMENTS.name))
        except (TimeoutError, PoiseError) as error:
            log.warning("which documents have changed cannot be determined: %s", error_message(error))
            return False
        return True

    def _apply(self, record: Record) -> None:
        self._map.apply(record)

    def _switch(self, topic_id: str) -> None:
        self._map.switch(topic_id)

    async def _reset(self) -> None:
        self._map = VersionMap(self._map.topic_id)


@asynccontextmanager
async def follow_versions(
    mesh: MeshConnection, settings: OrchestrationSettings
) -> AsyncIterator[DocumentVersions | None]:
    """Follow the documents' versions if answers are cached; else yield None."""
    if not settings.cache.enabled or mesh.settings.redis_url is None:
        yield None
        return
    async with DocumentVersions(mesh) as versions:
        yield versions
