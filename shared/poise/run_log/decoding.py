"""Decoding the records of a log that other versions of Poise, and other programs, write too."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from poise.contracts.headers import KIND
from poise.contracts.message import Message
from poise.kafka.record import Record

MessageT = TypeVar("MessageT", bound=Message)


def decodable(kind: type[MessageT], records: Iterable[Record]) -> list[tuple[Record, MessageT]]:
    """Return the records of this kind with their bodies.

    Other kinds, newer versions and invalid bodies are skipped.
    """
    found = []
    for record in records:
        if record.header(KIND) not in {None, kind.kind}:
            continue
        try:
            found.append((record, kind.parse(record.value or b"")))
        except ValidationError:
            continue
    return found
