"""Remembered cancels are bounded, by tenant and in total, and are forgotten after their deadlines."""

from poise.rpc.recent_cancels import SWEEP_INTERVAL, CancelKey, RecentCancels


def run(name: object, tenant: str = "acme") -> CancelKey:
    return CancelKey(tenant, str(name), None)


def remember(memory: RecentCancels, cancelled: CancelKey, *, until: float = 100.0, at: float = 1.0) -> bool:
    return memory.add(cancelled, until=until, at=at, now=1.0)


def test_cancel_is_remembered_until_its_latest_deadline() -> None:
    memory = RecentCancels()
    assert memory.cancelled_at(run("a"), 1.0) == -1.0
    remember(memory, run("a"), at=1.0)
    remember(memory, run("a"), until=200.0, at=2.0)
    assert (memory.cancelled_at(run("a"), 200.0), memory.cancelled_at(run("a"), 200.1)) == (2.0, -1.0)
    assert (
        memory.cancelled_at(run("a", "other"), 1.0) == memory.cancelled_at(CancelKey("acme", "a", "step"), 1.0) == -1.0
    )


def test_flood_of_cancels_evicts_only_those_of_its_tenant() -> None:
    memory = RecentCancels(max_cancels=100)
    remember(memory, run("theirs", "other"))
    forgotten = [remember(memory, run(number)) for number in range(1_000)]
    assert forgotten == [False] * 50 + [True] * 950
    assert len(memory) == 51
    assert memory.cancelled_at(run("theirs", "other"), 1.0) == 1.0
    assert memory.cancelled_at(run(949), 1.0) == -1.0
    assert memory.cancelled_at(run(950), 1.0) == 1.0


def test_cancels_of_all_tenants_together_are_bounded() -> None:
    memory = RecentCancels(max_cancels=100)
    for number in range(1_000):
        remember(memory, run("a", f"tenant-{number}"))
    assert len(memory) == 100
    assert len(memory._tenants) == 100


def test_expired_cancels_are_dropped_behind_unexpired_ones() -> None:
    memory = RecentCancels()
    remember(memory, run("long"), until=100.0)
    for number in range(SWEEP_INTERVAL):
        memory.add(run(number), until=2.0, at=1.0, now=float(number > 500) * 50)
    assert len(memory) < SWEEP_INTERVAL / 2
    assert memory.cancelled_at(run("long"), 60.0) == 1.0
    assert not memory.add(run("x"), until=100.0, at=1.0, now=60.0)
