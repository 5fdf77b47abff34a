"""Epoch check: an epoch that no index can ever come to is refused at once, instead of being waited for."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from poise.contracts.envelope import MIN_EPOCH
from poise.contracts.epoch import Epoch
from poise.contracts.fault import FieldError
from poise.contracts.topics import DOCUMENTS
from poise.errors import InvalidMessageError, PoiseError
from poise.kafka.coalesced_read import CoalescedRead
from poise.kafka.end_offsets import EndOffsets
from poise.kafka.log_reader import LogAccess
from poise.text.error_text import words_of

log = logging.getLogger(__name__)

ANSWERED_WITHIN: Final = 2.0
"""Seconds for the broker to say how far the documents reach; without an answer nothing is refused."""
NAMED: Final = 3
"""Partitions that a refusal names."""


class _Documents(NamedTuple):
    """What the broker says of `poise.documents`."""

    id: str
    partitions: int
    ends: Mapping[int, int]


class EpochCheck:
    """Compares epochs with the log of documents; `async with EpochCheck(access) as check: await check.possible(epoch)`.

    What was acknowledged is below the end, whatever transactions are open beside it: the broker's high watermark is
    asked for, not the last stable offset, and after the epoch has come. An epoch below ends that are known needs no
    question; all others share one.

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

    async def possible(self, epoch: Epoch) -> None:
        """Return if an index may come to an epoch, or nobody can tell now.

        Raises:
            InvalidMessageError: None ever will.
        """
        last = self._documents.last_value
        if last is not None and not any(_faults(epoch, last)):
            return
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                now = await self._documents.read()
        except (TimeoutError, PoiseError) as error:
            log.warning("an epoch was not compared with the end of %s: %s", DOCUMENTS.name, words_of(error))
            return
        faults = [fault for fault, _ in zip(_faults(epoch, now), range(NAMED), strict=False)]
        if faults:
            raise refused("; ".join(faults))

    async def _read(self) -> _Documents:
        found = await self._admin.metadata(DOCUMENTS.name)
        return _Documents(found.id, found.partitions, await self._ends.fetch())


def epoch_of(text: str) -> Epoch:
    """Read an epoch that somebody sent.

    Raises:
        InvalidMessageError: It is none.
    """
    try:
        return Epoch.decode(text)
    except ValueError as error:
        raise refused(str(error)) from error


def refused(detail: str) -> InvalidMessageError:
    """What is said of an epoch that is refused."""
    return InvalidMessageError(f"{MIN_EPOCH}: {detail}", [FieldError(field=MIN_EPOCH, detail=detail)])


def _faults(epoch: Epoch, documents: _Documents) -> Iterator[str]:
    if epoch.topic_id != documents.id:
        yield f"is of a {DOCUMENTS.name} that is no more: ask without it"
        return
    for partition, (offset, _) in epoch.parts.items():
        if partition >= documents.partitions:
            yield f"names partition {partition} of {DOCUMENTS.name}, which has {documents.partitions}"
        elif offset >= documents.ends.get(partition, offset + 1):
            yield (
                f"names offset {offset} of partition {partition} of {DOCUMENTS.name}, which ends at "
                f"{documents.ends[partition]}: no document stands there"
            )
