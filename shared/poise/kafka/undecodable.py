"""Batches that cannot be decoded: the error for one, and the callback that a log reader passes each one to."""

import logging
from typing import Protocol

from poise.errors import UndecodableBatchError
from poise.kafka.record import Record

log = logging.getLogger(__name__)


class OnUndecodable(Protocol):
    """Receives each batch that a log reader cannot decode. It must not block: it is called on the event loop."""

    def __call__(self, record: Record, /) -> None:
        """Take the batch, a record whose `undecodable` is set."""


def undecodable_error(record: Record) -> UndecodableBatchError:
    """Return the error that describes an undecodable batch.

    Raises:
        ValueError: The record was decoded.
    """
    found = record.undecodable
    if found is None:
        raise ValueError(f"{record.position} is a decoded record")
    offsets = f"records {found.first_offset} to {record.offset} of {record.topic}/{record.partition}"
    return UndecodableBatchError(f"{offsets} cannot be decoded: {found.reason}")


def log_undecodable(record: Record) -> None:
    """Log that a batch is skipped."""
    log.warning("%s; skipped", undecodable_error(record))
