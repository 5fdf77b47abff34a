"""The keyed queue against a model: records of a key stay in order, and none is lost or repeated."""

from collections import Counter

from aiokafka import TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poise.kafka.keyed_queue import KeyedQueue, PendingRecord
from poise.kafka.offset_tracker import OffsetTracker
from poise.kafka.record import Record

PARTITIONS = 3


class WaitingAgainstModel(RuleBasedStateMachine):
    """Add, pop, complete, and remove a partition, in any order."""

    @initialize(ordered=st.booleans())
    def start(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.queue = KeyedQueue(ordered=ordered)
        self.tracker = OffsetTracker()
        self.added: list[PendingRecord] = []  # neither popped nor removed, in order
        self.running: list[PendingRecord] = []
        self.offset = 0

    @rule(partition=st.integers(0, PARTITIONS - 1), key=st.sampled_from([None, b"a", b"b"]))
    def add(self, partition: int, key: bytes | None) -> None:
        self.offset += 1
        keyed = key if key is None else key + b"%d" % partition  # a key is in one partition
        record = Record("t", partition, self.offset, 0.0, keyed, b"x")
        pending = PendingRecord(record, TopicPartition("t", partition), self.tracker)
        self.queue.add(pending)
        self.added.append(pending)

    @precondition(lambda self: self.queue)
    @rule()
    def take(self) -> None:
        pending = self.queue.pop()
        assert pending in self.added
        if self.ordered and pending.record.key is not None:
            assert pending is next(other for other in self.added if other.record.key == pending.record.key)
            assert pending.record.key not in {other.record.key for other in self.running}
        self.added.remove(pending)
        self.running.append(pending)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def take_all(self, partition: int) -> None:
        taken = self.queue.pop_matching(lambda pending: pending.partition.partition == partition)
        for pending in taken:
            assert pending.partition.partition == partition
            if self.ordered and pending.record.key is not None:
                assert pending is next(other for other in self.added if other.record.key == pending.record.key)
            self.added.remove(pending)
        self.running += taken

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        pending = data.draw(st.sampled_from(self.running))
        self.running.remove(pending)
        self.queue.complete(pending)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def drop(self, partition: int) -> None:
        gone = [pending for pending in self.added if pending.partition.partition == partition]
        dropped = self.queue.remove(lambda pending: pending.partition.partition == partition)
        assert sorted(dropped, key=id) == sorted(gone, key=id)
        self.added = [pending for pending in self.added if pending not in gone]

    @invariant()
    def one_may_begin_exactly_when_no_other_of_its_key_runs(self) -> None:
        busy = {pending.record.key for pending in self.running} if self.ordered else set()
        free = [pending for pending in self.added if pending.record.key is None or pending.record.key not in busy]
        assert bool(self.queue) == bool(free)

    @invariant()
    def what_waits_behind_is_counted(self) -> None:
        expected: Counter[TopicPartition] = Counter()
        if self.ordered:
            heads = {pending.record.key for pending in self.running}
            for pending in self.added:
                if pending.record.key is not None and pending.record.key in heads:
                    expected[pending.partition] += 1
                heads.add(pending.record.key)
        assert +self.queue.blocked_count == +expected


TestWaiting = WaitingAgainstModel.TestCase


def test_empty_headers_count_too() -> None:
    plain, laden = (Record("t", 0, 1, 0.0, b"k", b"x", (("", None),) * count) for count in (0, 1_000))
    sizes = [PendingRecord(record, TopicPartition("t", 0), OffsetTracker()).size for record in (plain, laden)]
    assert sizes == [2, 2 + 100 * 1_000]
