"""The offset tracker against a model that stores every offset."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poise.kafka.offset_metadata import decode
from poise.kafka.offset_tracker import Commit, OffsetTracker


class TrackerAgainstModel(RuleBasedStateMachine):
    """Deliver with gaps, redeliver as after a rebalance, finish in any order, commit at any time, and restart."""

    @initialize(first=st.integers(0, 1_000))
    def start(self, first: int) -> None:
        self.tracker = OffsetTracker()
        self.log: list[int] = []  # the existing offsets
        self.end = first
        self.next = 0  # the index in the log of what Kafka delivers next
        self.running: set[int] = set()
        self.finished: set[int] = set()
        self.committed: Commit | None = None

    @rule(gap=st.integers(0, 3), number=st.integers(1, 8))
    def write(self, gap: int, number: int) -> None:
        self.log += range(self.end + gap, self.end + gap + number)
        self.end += gap + number

    @precondition(lambda self: self.next < len(self.log))
    @rule(number=st.integers(1, 8))
    def deliver(self, number: int) -> None:
        for offset in self.log[self.next : self.next + number]:
            if self.tracker.deliver(offset):
                self.running.add(offset)
            else:
                assert offset in self.running | self.finished, "an unhandled message was skipped"
        self.next = min(self.next + number, len(self.log))

    @rule()
    def the_partition_comes_back(self) -> None:
        """Redeliver from the committed offset, as Kafka does, while messages in progress continue."""
        self._rewind()

    @rule()
    def restart(self) -> None:
        """Resume from the commit in another worker; interrupt the messages in progress."""
        self.running.clear()
        commit = self.committed
        known: set[int] = set()
        if commit is not None:
            above = decode(commit.offset, commit.finished)
            known = {offset for offset in self.log if offset < commit.offset or any(offset in span for span in above)}
        assert known <= self.finished, "an unfinished message was committed as finished"
        self.finished = known  # finished but uncommitted messages are handled again: at least once
        self.tracker = OffsetTracker() if commit is None else OffsetTracker(commit.offset, above)
        self._rewind()

    def _rewind(self) -> None:
        start = self.committed.offset if self.committed else 0
        self.next = next((index for index, offset in enumerate(self.log) if offset >= start), len(self.log))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.tracker.finish(offset)
        self.running.remove(offset)
        assert offset not in self.finished, "a finished message was handled again"
        self.finished.add(offset)

    @rule()
    def commit(self) -> None:
        commit = self.tracker.to_commit()
        if commit is not None:
            assert self.committed is None or commit.offset >= self.committed.offset
            self.tracker.mark_committed(commit)
            self.committed = commit
        assert self.tracker.to_commit() is None
        assert not self.tracker.metadata_full

    @invariant()
    def the_watermark_is_the_first_that_is_not_finished(self) -> None:
        watermark = self.tracker.watermark
        assert self.tracker.unfinished == len(self.running)
        if watermark is not None:
            assert all(offset in self.finished for offset in self.log if offset < watermark)
            assert not self.running or watermark == min(self.running)

    @invariant()
    def nothing_finished_is_forgotten(self) -> None:
        """Check that a commit has every finished offset that the tracker knows, as far as the metadata reaches."""
        commit = self.tracker.to_commit() or self.committed
        if commit is not None:
            above = decode(commit.offset, commit.finished)
            for offset in self.finished:
                assert offset < commit.offset or any(offset in span for span in above)


TestTracker = TrackerAgainstModel.TestCase


def test_finishing_an_undelivered_offset_is_an_error() -> None:
    tracker = OffsetTracker()
    tracker.deliver(7)
    tracker.finish(7)
    with pytest.raises(ValueError, match="offset 7"):
        tracker.finish(7)
    with pytest.raises(ValueError, match="offset 8"):
        tracker.finish(8)


def test_a_tracker_stays_full_until_its_metadata_has_room() -> None:
    tracker = OffsetTracker()
    for offset in range(60_000):
        tracker.deliver(offset)
    for offset in range(1, 60_000, 2):
        tracker.finish(offset)
    commit = tracker.to_commit()
    assert tracker.metadata_full
    assert commit is not None
    above = decode(0, commit.finished)
    assert all(len(span) == 1 and span.start % 2 for span in above)
    for offset in range(2, 60_000, 2):
        tracker.finish(offset)
    assert tracker.to_commit() is not None
    assert not tracker.metadata_full


def test_its_memory_grows_with_unfinished_messages_only() -> None:
    tracker = OffsetTracker()
    tracker.deliver(0)
    for offset in range(1, 10_000):
        tracker.deliver(offset)
        tracker.finish(offset)
    assert tracker.unfinished == 1
    commit = tracker.to_commit()
    assert commit is not None
    assert (commit.offset, decode(0, commit.finished)) == (0, [range(1, 10_000)])
