"""Prefetched records are kept while the buffer is full."""

import asyncio
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from group_kit import group
from integration_kit import until

from poise.kafka.consumer import ConsumerLimits
from poise.kafka.record import Record

pytestmark = pytest.mark.integration


async def test_a_full_buffer_causes_no_repeated_fetches(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_from: list[int] = []

    class Noting(fetcher.PartitionRecords):
        def __init__(self, tp: Any, records: Any, aborted: Any, offset: int, *rest: Any) -> None:
            super().__init__(tp, records, aborted, offset, *rest)  # type: ignore[no-untyped-call]  # aiokafka has no types
            read_from.append(offset)

    async with group(kafka) as readers:
        await readers.write(400)
        monkeypatch.setattr(fetcher, "PartitionRecords", Noting)
        async with readers.member(ConsumerLimits(concurrency=2, buffer_factor=4)) as member:

            async def handle(_record: Record) -> None:
                await asyncio.sleep(0)

            member.handle = handle
            await until(lambda: len(member.done) == 400)
    # The broker returns all records in a handful of batches; fetching again at each pause takes a hundred.
    assert len(read_from) < 20, read_from
