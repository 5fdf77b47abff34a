"""Leases of steps and their stored replies, on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from poise.redis.client import RedisClient
from poise.redis.lease_store import Lease, LeaseStatus, LeaseStore, StoredReply

pytestmark = pytest.mark.integration

ME, OTHER = "me", "other"


@pytest.fixture
async def leases(valkey: str) -> AsyncIterator[LeaseStore]:
    async with RedisClient(valkey) as cache:
        yield LeaseStore(cache)


def lease(token: str, run: str) -> Lease:
    return Lease.for_step("t", run, "s", token=token)


async def test_only_the_token_that_holds_a_lease_can_store_and_release(leases: LeaseStore) -> None:
    run, reply = uuid4().hex, StoredReply("completion/1", b'{"a":\n1}')
    mine, other = lease("mine", run), lease("other", run)
    assert await leases.acquire(mine, 60) is LeaseStatus.OWNED
    assert await leases.acquire(other, 60) is LeaseStatus.HELD_ELSEWHERE
    assert await leases.store(other, reply, 60) is LeaseStatus.HELD_ELSEWHERE
    await leases.release(other)
    assert await leases.acquire(other, 60) is LeaseStatus.HELD_ELSEWHERE
    assert await leases.store(mine, reply, 60) is LeaseStatus.OWNED
    assert await leases.acquire(other, 60) == reply
    assert await leases.store(other, StoredReply("completion/1", b"{}"), 60) == reply
    await leases.renew(mine, 60)
    await leases.release(mine)
    assert await leases.acquire(mine, 60) == reply


async def test_a_released_lease_can_be_acquired_at_once(leases: LeaseStore) -> None:
    run = uuid4().hex
    assert await leases.acquire(lease("mine", run), 60) is LeaseStatus.OWNED
    await leases.release(lease("mine", run))
    await leases.renew(lease("mine", run), 60)  # a renewal in flight when the lease was released
    assert await leases.acquire(lease("other", run), 60) is LeaseStatus.OWNED


@pytest.mark.parametrize("written", [True, False])
async def test_leases_and_replies_expire(leases: LeaseStore, *, written: bool) -> None:
    run = uuid4().hex
    assert await leases.acquire(lease("mine", run), 0.2) is LeaseStatus.OWNED
    if written:
        assert await leases.store(lease("mine", run), StoredReply("k/1", b"x"), 0.2) is LeaseStatus.OWNED
    async with asyncio.timeout(20):
        while await leases.acquire(lease("other", run), 60) is not LeaseStatus.OWNED:  # noqa: ASYNC110 - in the server
            await asyncio.sleep(0.02)


async def test_each_step_has_its_own_lease(leases: LeaseStore) -> None:
    run = uuid4().hex
    for identity in (("a", f"{run}:b"), (f"a:{run}", "b"), ("a", run, "b"), ("a", f"{run}%3Ab")):
        assert await leases.acquire(Lease.for_step(*identity, token=ME), 60) is LeaseStatus.OWNED, identity
        assert await leases.acquire(Lease.for_step(*identity, token=OTHER), 60) is LeaseStatus.HELD_ELSEWHERE, identity


async def test_an_unreachable_redis_is_no_error() -> None:
    async with RedisClient("redis://127.0.0.1:1/0") as cache:
        absent = LeaseStore(cache)
        assert await absent.acquire(lease("x", "r"), 60) is LeaseStatus.UNKNOWN
        assert await absent.store(lease("x", "r"), StoredReply("k/1", b"x"), 60) is LeaseStatus.UNKNOWN
        await absent.renew(lease("x", "r"), 60)
        await absent.release(lease("x", "r"))


async def test_more_leases_than_connections_can_be_acquired_at_once(leases: LeaseStore) -> None:
    run = uuid4().hex
    found = await asyncio.gather(*(leases.acquire(lease(f"{n}", f"{run}-{n}"), 60) for n in range(500)))
    assert set(found) == {LeaseStatus.OWNED}
