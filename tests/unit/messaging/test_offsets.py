"""The offset tracker against a model that keeps everything."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poise.messaging.offsets import OffsetTracker


class TrackerAgainstModel(RuleBasedStateMachine):
    """Deliver with gaps, deliver again as after a rebalance, finish in any order, commit at any time."""

    @initialize(first=st.integers(0, 1_000))
    def start(self, first: int) -> None:
        self.tracker = OffsetTracker()
        self.next = first
        self.delivered: list[int] = []
        self.finished: set[int] = set()
        self.committed: int | None = None

    @rule(gap=st.integers(0, 3), number=st.integers(1, 5))
    def deliver(self, gap: int, number: int) -> None:
        self.next += gap
        for offset in range(self.next, self.next + number):
            assert self.tracker.deliver(offset)
            self.delivered.append(offset)
        self.next += number

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """Kafka delivers again from the committed offset: nothing is to be handled twice."""
        start = data.draw(st.sampled_from(self.delivered))
        for offset in (known for known in self.delivered if known >= start):
            assert not self.tracker.deliver(offset)

    @precondition(lambda self: set(self.delivered) - self.finished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(set(self.delivered) - self.finished)))
        self.tracker.finish(offset)
        self.finished.add(offset)

    @rule()
    def commit(self) -> None:
        offset = self.tracker.to_commit()
        if offset is not None:
            assert self.committed is None or offset > self.committed
            self.tracker.committed(offset)
            self.committed = offset
        assert self.tracker.to_commit() is None

    @invariant()
    def nothing_unfinished_is_passed_over(self) -> None:
        watermark = self.tracker.watermark
        if watermark is None:
            return
        assert all(offset in self.finished for offset in self.delivered if offset < watermark)

    @invariant()
    def nothing_finished_holds_the_watermark_back(self) -> None:
        unfinished = [offset for offset in self.delivered if offset not in self.finished]
        assert self.tracker.unfinished == len(unfinished)
        if self.delivered:
            watermark = self.tracker.watermark
            assert watermark is not None
            wanted = unfinished[0] if unfinished else self.delivered[-1] + 1
            reachable = [offset for offset in self.delivered if offset >= watermark]
            assert watermark <= wanted
            assert not [offset for offset in reachable if offset < wanted]


TestTracker = TrackerAgainstModel.TestCase


def test_finishing_what_was_never_delivered_is_an_error() -> None:
    tracker = OffsetTracker()
    tracker.deliver(7)
    tracker.finish(7)
    with pytest.raises(ValueError, match="offset 7"):
        tracker.finish(7)
    with pytest.raises(ValueError, match="offset 8"):
        tracker.finish(8)
