"""Whether topics take what is written: records that wait, and topics that failed."""

from poise.kafka.producer_health import FAILED_FOR, LATE_AFTER, SendHealth

TOPIC = "poise.records"


class World:
    """A clock, and partitions without leaders."""

    def __init__(self) -> None:
        self.time = 100.0
        self.leaderless: frozenset[int] = frozenset()
        self.health = SendHealth(lambda: self.time, lambda _topic: self.leaderless)


def test_a_record_may_wait_for_a_while() -> None:
    world = World()
    world.health.sending("a", TOPIC)
    world.time += LATE_AFTER
    world.health.sending("b", "poise.spans")
    assert world.health.problem() is None
    world.time += 1
    assert world.health.problem() == f"{TOPIC} has not taken a record for {LATE_AFTER + 1:.0f} s"
    world.health.finished("a")
    world.health.finished("a")
    assert world.health.problem() is None


def test_a_topic_that_failed_is_well_once_it_takes_a_record() -> None:
    world = World()
    world.health.failed(TOPIC)
    world.health.succeeded("poise.spans")
    assert world.health.problem() == f"{TOPIC} did not take its last record"
    world.health.succeeded(TOPIC)
    assert world.health.problem() is None


def test_what_other_partitions_take_says_nothing_of_one_without_a_leader() -> None:
    world = World()
    world.leaderless = frozenset({5})
    world.health.failed(TOPIC)
    for _ in range(60):
        world.time += 1
        world.health.succeeded(TOPIC)
        assert world.health.problem() == f"{TOPIC} has no leader of partition 5"
    world.leaderless = frozenset()
    world.health.succeeded(TOPIC)
    assert world.health.problem() is None


def test_where_nothing_is_sent_it_is_well_after_a_while_if_its_partitions_have_leaders() -> None:
    world = World()
    world.leaderless = frozenset({4, 2})
    assert world.health.problem() is None  # of a topic that nothing was sent to
    world.health.failed(TOPIC)
    world.time += 10 * FAILED_FOR
    assert world.health.problem() == f"{TOPIC} has no leader of partition 2, 4"
    world.leaderless = frozenset()
    assert world.health.problem() is None
    world.leaderless = frozenset({4, 2})
    assert world.health.problem() is None


def test_a_topic_that_lacked_leaders_is_well_as_soon_as_it_has_them() -> None:
    """Its process is not ready, so that nobody has it write; what it took last may have come before that was known."""
    world = World()
    world.leaderless = frozenset({5})
    world.health.failed(TOPIC)
    assert world.health.problem() == f"{TOPIC} has no leader of partition 5"
    world.health.succeeded(TOPIC)
    world.leaderless = frozenset()
    assert world.health.problem() is None
    world.health.failed(TOPIC)
    assert world.health.problem() == f"{TOPIC} did not take its last record", "leaders were not all that it lacked"
