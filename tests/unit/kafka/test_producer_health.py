"""Producer health: pending records, and failing topics."""

from poise.kafka.producer_health import FAILED_FOR, LATE_AFTER, SendHealth

TOPIC = "poise.records"


class HealthFixture:
    """A clock, and partitions without leaders."""

    def __init__(self) -> None:
        self.time = 100.0
        self.leaderless: frozenset[int] = frozenset()
        self.health = SendHealth(lambda: self.time, lambda _topic: self.leaderless)


def test_a_record_may_be_pending_for_a_while() -> None:
    world = HealthFixture()
    world.health.sending("a", TOPIC)
    world.time += LATE_AFTER
    world.health.sending("b", "poise.spans")
    assert world.health.problem() is None
    world.time += 1
    assert world.health.problem() == f"{TOPIC} has not taken a record for {LATE_AFTER + 1:.0f} s"
    world.health.finished("a")
    world.health.finished("a")
    assert world.health.problem() is None


def test_a_failing_topic_recovers_when_it_takes_a_record() -> None:
    world = HealthFixture()
    world.health.failed(TOPIC)
    world.health.succeeded("poise.spans")
    assert world.health.problem() == f"{TOPIC} did not take its last record"
    world.health.succeeded(TOPIC)
    assert world.health.problem() is None


def test_records_taken_by_other_partitions_do_not_clear_a_leaderless_one() -> None:
    world = HealthFixture()
    world.leaderless = frozenset({5})
    world.health.failed(TOPIC)
    for _ in range(60):
        world.time += 1
        world.health.succeeded(TOPIC)
        assert world.health.problem() == f"{TOPIC} has no leader of partition 5"
    world.leaderless = frozenset()
    world.health.succeeded(TOPIC)
    assert world.health.problem() is None


def test_a_failing_topic_without_traffic_recovers_after_a_while_if_it_has_leaders() -> None:
    world = HealthFixture()
    world.leaderless = frozenset({4, 2})
    assert world.health.problem() is None  # a topic without traffic
    world.health.failed(TOPIC)
    world.time += 10 * FAILED_FOR
    assert world.health.problem() == f"{TOPIC} has no leader of partition 2, 4"
    world.leaderless = frozenset()
    assert world.health.problem() is None
    world.leaderless = frozenset({4, 2})
    assert world.health.problem() is None


def test_a_leaderless_topic_recovers_when_it_has_leaders() -> None:
    """Check that no later record is needed: a process that is not ready gets no work that writes."""
    world = HealthFixture()
    world.leaderless = frozenset({5})
    world.health.failed(TOPIC)
    assert world.health.problem() == f"{TOPIC} has no leader of partition 5"
    world.health.succeeded(TOPIC)
    world.leaderless = frozenset()
    assert world.health.problem() is None
    world.health.failed(TOPIC)
    assert world.health.problem() == f"{TOPIC} did not take its last record", (
        "it failed for another reason than leaders"
    )
