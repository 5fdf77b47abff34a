"""`RunLog` starts reading earlier by the clock skew; it skips undecodable records only when it returns many records."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from poise.contracts import RunRecord, Score
from poise.contracts.run_id import new_run_id
from poise.errors import MissingTopicError, RetryableError, TerminalError, UnavailableError
from poise.kafka.log_lookup import Window
from poise.kafka.logs import Logs
from poise.kafka.record import Record
from poise.run_log.lookup import TRACE_ATTEMPTS, LookupLimits, RunLog
from poise.run_log.search_windows import search_windows

SKEW = 2.0
BEGAN = time.time() - 60.0
RUN = new_run_id(BEGAN, Random(1))


class RunTopics:
    """Topics with one record of each kind. They note where each read starts."""

    def __init__(self, record: bytes | None = None, error: Exception | None = None) -> None:
        self.record = record
        self.error = error
        self.starts: list[Any] = []
        self.windows: list[list[Window]] = []
        self.lookups = self

    async def last_of_key(self, topic: str, key: str, windows: Iterable[Window]) -> Record | None:
        self.windows.append(list(windows))
        self.starts += [window.start for window in self.windows[-1]]
        if self.error is not None:
            raise self.error
        return None if self.record is None else Record(topic, 0, 0, 1.0, key.encode(), self.record)

    async def read_key(self, _topic: str, _key: str, *, start: float) -> list[Record]:
        self.starts.append(start)
        return []

    @asynccontextmanager
    async def open_stream(self, topic: str, *, start: float) -> AsyncIterator[Any]:
        self.starts.append(start)

        async def read_to_end(*, within: float) -> AsyncIterator[list[Record]]:
            assert within > 0
            yield [Record(topic, 0, at, float(at), b"answer", a_score(at).encode()) for at in (99, 100)]

        yield SimpleNamespace(read_to_end=read_to_end)


def a_score(at: int) -> Score:
    return Score(
        run_id=f"run-{at}", workflow="answer", tenant="t", policy="answer", policy_version=1, variant="a",
        probability=1.0, rung="primary", at=float(at), values={},
    )  # fmt: skip


def a_record(run: str) -> RunRecord:
    return RunRecord(run_id=run, workflow="answer", tenant="t", question="Why?", started=1.0, finished=2.0)


def run_log(topics: RunTopics, limits: LookupLimits | None = None) -> RunLog:
    return RunLog(cast("Logs", topics), SKEW, limits)


async def test_score_lookup_starts_earlier_by_the_clock_skew_and_filters_by_score_time() -> None:
    topics = RunTopics()
    assert [score.run_id for score in await run_log(topics).scores(100.0)] == ["run-100"]
    assert topics.starts == [100.0 - SKEW]


async def test_record_and_trace_lookups_start_earlier_by_the_clock_skew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.run_log.lookup.TRACE_INTERVAL", 0.0)
    topics = RunTopics(a_record(RUN).encode())
    assert await run_log(topics).record(RUN) == a_record(RUN)
    await run_log(topics).trace(RUN)
    assert topics.starts[:3] == pytest.approx([BEGAN - SKEW] * 3, abs=0.002)


@pytest.mark.parametrize("run", [new_run_id(BEGAN - 86_400, Random(1)), "5d1c8c1c-0e9a-5a52-8f5b-0f6d8e3a2b11"])
async def test_trace_searches_its_record_in_the_windows_of_a_record_lookup(
    monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    monkeypatch.setattr("poise.run_log.lookup.TRACE_INTERVAL", 0.0)
    now = time.time()
    monkeypatch.setattr("poise.run_log.lookup.time.time", lambda: now)
    topics = RunTopics(a_record(run).encode())
    assert (await run_log(topics).trace(run)).record == a_record(run)
    expected = search_windows(run, now, SKEW)
    first, *later = topics.windows
    assert first == [*expected.usual, *expected.rest]
    assert later == [[Window(now - SKEW)]] * (TRACE_ATTEMPTS - 1)


async def test_undecodable_record_fails_its_own_lookup_and_is_skipped_in_a_list() -> None:
    topics = RunTopics(b"{}")
    with pytest.raises(TerminalError, match=f"the record of run {RUN} cannot be read"):
        await run_log(topics).record(RUN)
    assert await run_log(topics).records([RUN]) == {}


async def test_unreadable_topic_is_unavailable_and_slow_lookup_is_retryable() -> None:
    with pytest.raises(UnavailableError, match="the records cannot be read: no topic"):
        await run_log(RunTopics(error=MissingTopicError("no topic"))).record(RUN)
    with pytest.raises(RetryableError, match="was not searched to its end") as raised:
        await run_log(RunTopics(error=TimeoutError())).record(RUN)
    assert raised.value.retry_after == 10.0
