"""Rejects an epoch that no index can ever reach, so that nobody waits for it."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from poise.contracts.epoch import Epoch
from poise.contracts.fault import FieldError
from poise.contracts.headers import MIN_EPOCH
from poise.contracts.topics import DOCUMENTS
from poise.errors import InvalidMessageError, PoiseError
from poise.kafka.coalesced_read import CoalescedRead
from poise.kafka.end_offsets import EndOffsets
from poise.kafka.log_reader import LogAccess
from poise.text.error_text import error_message

log = logging.getLogger(__name__)

BROKER_TIMEOUT: Final = 2.0
"""Seconds for the broker to return the end offsets of `poise.documents`; on a timeout, no epoch is rejected."""
MAX_REPORTED_FAULTS: Final = 3
"""Partitions that an error message names at most."""


class _DocumentsTopic(NamedTuple):
    """Metadata of `poise.documents`."""

    id: str
    partitions: int
    ends: Mapping[int, int]


class EpochValidator:
    """Compares epochs with the end of `poise.documents`; `async with EpochValidator(access) as epochs: …`.

    Every acknowledged document is below the high watermark, even while transactions are open. So the high watermark is
    read, not the last stable offset, and only after the epoch was received. An epoch below cached end offsets needs no
    request; all others share one.

    Raises:
        SetupError: No broker answers, or `poise.documents` is missing.
    """

    def __init__(self, access: LogAccess) -> None:
        self._admin = access.admin
        self._ends = EndOffsets(access.connection, DOCUMENTS.name, "read_uncommitted")
        self._documents = CoalescedRead(self._read)

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._ends.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._ends.__aexit__(kind, error, traceback)

    async def validate(self, epoch: Epoch) -> None:
        """Return if an index may reach the epoch, or if the broker does not answer.

        Raises:
            InvalidMessageError: No index can ever reach it.
        """
        last = self._documents.last_value
        if last is not None and not any(_faults(epoch, last)):
            return
        try:
            async with asyncio.timeout(BROKER_TIMEOUT):
                now = await self._documents.read()
        except (TimeoutError, PoiseError) as error:
            log.warning("an epoch was not compared with the end of %s: %s", DOCUMENTS.name, error_message(error))
            return
        faults = [fault for fault, _ in zip(_faults(epoch, now), range(MAX_REPORTED_FAULTS), strict=False)]
        if faults:
            raise invalid_epoch("; ".join(faults))

    async def _read(self) -> _DocumentsTopic:
        found = await self._admin.metadata(DOCUMENTS.name)
        return _DocumentsTopic(found.id, found.partitions, await self._ends.fetch())


def parse_epoch(text: str) -> Epoch:
    """Parse the epoch of a request.

    Raises:
        InvalidMessageError: It is not an epoch.
    """
    try:
        return Epoch.decode(text)
    except ValueError as error:
        raise invalid_epoch(str(error)) from error


def invalid_epoch(detail: str) -> InvalidMessageError:
    """Return the error for an invalid `poise-min-epoch`."""
    return InvalidMessageError(f"{MIN_EPOCH}: {detail}", [FieldError(field=MIN_EPOCH, detail=detail)])


def _faults(epoch: Epoch, documents: _DocumentsTopic) -> Iterator[str]:
    if epoch.topic_id != documents.id:
        yield f"belongs to a deleted {DOCUMENTS.name}: ask without it"
        return
    for partition, (offset, _) in epoch.partitions.items():
        if partition >= documents.partitions:
            yield f"names partition {partition} of {DOCUMENTS.name}, which has {documents.partitions}"
        elif offset >= documents.ends.get(partition, offset + 1):
            yield (
                f"names offset {offset} of partition {partition} of {DOCUMENTS.name}, which ends at "
                f"{documents.ends[partition]}: there is no document"
            )
