"""The on-disk state of a retrieval worker: an index and its metadata, in a folder that no other worker uses.

All of it is derived from `poise.passages`, so a damaged store is deleted and rebuilt.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

from poise.contracts import CopyNote, Envelope, Epoch, Manifest, PassageRecord
from poise.errors import SetupError
from poise.kafka.record import Record
from poise.system.private_directory import make_private_directory
from poise.text.error_text import error_message
from poise_services.retrieval.index import DIMENSIONS, Index
from poise_services.retrieval.index_metadata import IndexMetadata
from poise_services.retrieval.passages import decode_vector, document_of_copy_note, document_of_manifest
from poise_services.retrieval.version_assembler import AssembledVersion, VersionAssembler

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LAYOUT_VERSION: Final = "2"
"""The layout of index and metadata; a store of another version is rebuilt."""
DOCUMENTS_RECREATED: Final = (
    "poise.documents was recreated but poise.passages was not, so versions of documents cannot be compared: "
    "delete poise.passages too, apply the topics, and ingest again"
)
_METADATA_FILE: Final = "ledger.sqlite"
"""The name of the metadata file. It is part of the layout: another name would make existing stores unusable."""
_COUNT_AT_CLOSE: Final = "closed with"
"""The property with the number of passages at the last clean close."""


@dataclass(frozen=True, slots=True)
class StoreOrigin:
    """The topics and the model that a store was built from; a store of another origin is unusable."""

    documents: str
    """The topic id of `poise.documents`."""
    passages: str
    """The topic id of `poise.passages`."""
    model: str
    """The embedding model's id."""

    def properties(self) -> dict[str, str]:
        """Return the origin as properties."""
        return {"form": _LAYOUT_VERSION, "documents": self.documents, "passages": self.passages, "model": self.model}


class _UnusableStoreError(Exception):
    """The store cannot be used; says why."""


class IndexStore:
    """An open store. Use it in one thread, except for `index.search` and `epoch`.

    Args:
        folder: The folder of this store only; created if missing.
        origin: The topics and the model that the contents must be built from.
        checkpoint_interval: Seconds between writes to disk while records arrive.

    Raises:
        _UnusableStoreError: The store is damaged, or has another origin.
        SetupError: The store was built from this `poise.passages`, but another `poise.documents`.
    """

    def __init__(self, folder: Path, origin: StoreOrigin, *, checkpoint_interval: float) -> None:
        passages = folder / "passages"
        passages.mkdir(parents=True, exist_ok=True)
        self.metadata = _open_or_unusable(lambda: IndexMetadata(folder / _METADATA_FILE))
        properties = _open_or_unusable(self.metadata.properties)
        try:
            _check_origin(properties, origin, empty=not self.metadata.next_offsets())
            self.index = _open_or_unusable(lambda: Index(passages, origin.model))
            _check_count(len(self.index), properties)
        except BaseException:
            self.metadata.close()
            raise
        self.origin = origin
        self._assembler = VersionAssembler()
        self._checkpoint_interval = checkpoint_interval
        self._last_checkpoint = time.monotonic()
        self.metadata.set_properties(origin.properties())
        self.metadata.commit()
        self.next_offsets = self.metadata.next_offsets()
        """By partition, the offset after the last record applied."""
        self.epoch: Epoch = self.metadata.epoch(origin.documents)

    def apply(self, record: Record) -> None:
        """Apply a record of `poise.passages`, in offset order of each partition.

        Raises:
            ValueError: It is malformed. Its version never completes, so the previous one stays visible.
            SetupError: The index cannot be written.
        """
        try:
            message = _parse_record(record, self.origin.model)
        except ValueError:
            self.next_offsets[record.partition] = record.offset + 1
            raise
        try:
            if message is not None:
                self._apply_message(record, *message)
            else:
                self._apply_tombstone(record)
            self.next_offsets[record.partition] = record.offset + 1
            if time.monotonic() - self._last_checkpoint >= self._checkpoint_interval:
                self.checkpoint()
        except Exception as error:
            raise SetupError(
                f"the index cannot be written ({error_message(error)}): is the disk of POISE_STATE_DIR full?"
            ) from error

    def _apply_message(self, record: Record, version_number: int, message: PassageRecord | Manifest | CopyNote) -> None:
        if isinstance(message, CopyNote):
            self.metadata.record_copy(message, record.partition, version_number, time.time())
            self._apply_copies(message.partition)
            return
        version = self._assembler.add(
            message,
            partition=record.partition,
            offset=record.offset,
            version_number=version_number,
            current=self.metadata.version_of(message.document).version,
        )
        if version is not None:
            self._switch_version(version)

    def _switch_version(self, version: AssembledVersion) -> None:
        """Replace the visible version. The epoch moves last, so that it never runs ahead of what a search finds."""
        self.index.replace_document(version)
        self.metadata.record_version(version, time.time())
        self.epoch = self.epoch.with_offset(version.partition, version.version_number, version.document_written_at)
        self._apply_copies(version.partition)

    def _apply_tombstone(self, record: Record) -> None:
        """Remove the metadata that a tombstone deletes.

        That is the deletion of an unknown document, or the note of a copy.
        """
        key = (record.key or b"").decode(errors="replace")
        version_number = Envelope.read(record.headers).doc_version
        if version_number is None:
            return
        if (document := document_of_manifest(key)) is not None:
            self.metadata.remove_deletion(document, version_number)
        elif (document := document_of_copy_note(key)) is not None:
            self.metadata.remove_copy(document, record.partition, version_number)

    def _apply_copies(self, key_partition: int) -> None:
        """Move the epoch to records that `repartitioning` copied to a partition, once the copies are applied."""
        for partition, (offset, document_written_at) in self.metadata.apply_copies(key_partition).items():
            self.epoch = self.epoch.with_offset(partition, offset, document_written_at)

    def checkpoint(self) -> None:
        """Write the index, then its metadata, to disk."""
        self.index.flush()
        self.metadata.set_next_offsets(self._assembler.resume_offsets(self.next_offsets))
        self.metadata.commit()
        self._last_checkpoint = time.monotonic()

    def close(self) -> None:
        """Close cleanly."""
        self.checkpoint()
        passages = len(self.index)
        self.index.close()
        self.metadata.set_properties(self.origin.properties() | {_COUNT_AT_CLOSE: str(passages)})
        self.metadata.commit()
        self.metadata.close()


class IndexFolder:
    """A locked folder for one worker: the first free one of `0`, `1`, …; `with IndexFolder(root) as folder`.

    The operating system releases the lock when the process ends, even if it is killed. So a restarted worker reuses the
    store of an earlier worker, whatever the name of either.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path, self._lock = _lock_first_free(root)

    def open(self, origin: StoreOrigin, *, checkpoint_interval: float) -> IndexStore:
        """Open the store in this folder; rebuild it if it is unusable.

        Raises:
            SetupError: The folder cannot be written.
        """
        try:
            try:
                return IndexStore(self.path, origin, checkpoint_interval=checkpoint_interval)
            except _UnusableStoreError as error:
                log.warning("the index in %s is rebuilt from poise.passages: %s", self.path, error)
                shutil.rmtree(self.path)
                return IndexStore(self.path, origin, checkpoint_interval=checkpoint_interval)
        except (OSError, _UnusableStoreError) as error:
            raise SetupError(
                f"no index can be stored in {self.path}: {error_message(error)}; set POISE_STATE_DIR"
            ) from error

    def recreate(self, store: IndexStore, origin: StoreOrigin, *, checkpoint_interval: float) -> IndexStore:
        """Delete the store in this folder, and open an empty one.

        Raises:
            SetupError: The folder cannot be written.
        """
        store.index.close()
        store.metadata.close()
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise SetupError(
                f"no index can be stored in {self.path}: {error_message(error)}; set POISE_STATE_DIR"
            ) from error
        return self.open(origin, checkpoint_interval=checkpoint_interval)

    def __enter__(self) -> Self:
        """Return the folder; its constructor locked it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the folder."""
        self._lock.close()


def _lock_first_free(root: Path) -> tuple[Path, IO[bytes]]:
    try:
        make_private_directory(root, ours=True)
        for number in count():
            lock = (root / f"{number}.lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            else:
                return root / str(number), lock
    except OSError as error:
        raise SetupError(f"no index can be stored in {root}: {error_message(error)}; set POISE_STATE_DIR") from error
    raise AssertionError("unreachable: itertools.count has no end")


def _check_origin(properties: dict[str, str], origin: StoreOrigin, *, empty: bool) -> None:
    expected = origin.properties()
    differing = [name for name in expected if properties and properties.get(name) != expected[name]]
    if differing == ["documents"] and not empty:
        raise SetupError(DOCUMENTS_RECREATED)
    if differing:
        raise _UnusableStoreError(f"it was built from another {' and '.join(differing)}")


def _check_count(passages: int, properties: dict[str, str]) -> None:
    """Check the number of passages: a lost file may have no other symptom.

    After an unclean close the number is not stored, and reading the log completes the index.
    """
    expected = properties.get(_COUNT_AT_CLOSE, str(passages))
    if expected != str(passages):
        raise _UnusableStoreError(f"it has {passages} passages instead of {expected}")


def _open_or_unusable(open_: Callable[[], _T]) -> _T:
    """Return the result of `open_`; translate every failure into `_UnusableStoreError`."""
    try:
        return open_()
    except (OSError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Qdrant's panics are BaseExceptions
        reason = next(iter(error_message(error).splitlines()), type(error).__name__)
        raise _UnusableStoreError(f"it is damaged: {reason}") from error


def _parse_record(record: Record, model: str) -> tuple[int, PassageRecord | Manifest | CopyNote] | None:
    """Return the version and body of a record; None for a tombstone."""
    if record.value is None:
        return None
    envelope = Envelope.read(record.headers)
    if envelope.doc_version is None:
        raise ValueError("header poise-doc-version is missing")
    if envelope.kind == Manifest.kind:
        return envelope.doc_version, Manifest.parse(record.value)
    if envelope.kind == CopyNote.kind:
        return envelope.doc_version, CopyNote.parse(record.value)
    if envelope.kind != PassageRecord.kind:
        raise ValueError(f"kind {envelope.kind} is not known here")
    passage = PassageRecord.parse(record.value)
    if passage.model == model:
        decode_vector(passage.vector, DIMENSIONS)
    return envelope.doc_version, passage
