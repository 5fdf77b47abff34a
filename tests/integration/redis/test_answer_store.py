"""Cached answers on a real Valkey: limits, and which ones are not stored."""

import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from poise.contracts import Answer
from poise.redis.answer_store import MAX_ENTRY_BYTES, AnswerStore, AnswerStoreAdmin, CachedAnswer, Dependency
from poise.redis.client import RedisClient

pytestmark = pytest.mark.integration

DAY = 86_400.0


@pytest.fixture
async def redis(valkey: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(valkey) as redis:
        yield redis


@pytest.fixture
def tenant() -> str:
    return uuid4().hex


def cached_answer(text: str = "It is so.", began: float | None = None) -> CachedAnswer:
    began = time.time() if began is None else began
    answer = Answer(run_id="r", text=text, rung="primary", epoch="e1.AAAA")
    return CachedAnswer(
        answer=answer,
        computation_started_at=began,
        computed_at=began,
        dependencies=(Dependency(document="d", source="d", digest="x"),),
        duration_ms=1,
    )


async def test_only_its_tenant_finds_an_answer(redis: RedisClient, tenant: str) -> None:
    answers, entry = AnswerStore(redis, 10), cached_answer()
    assert await answers.put(tenant, "k", entry, DAY)
    assert await answers.get(tenant, "k") == entry
    assert await answers.get(tenant + "x", "k") is None
    assert await answers.get(tenant, "other") is None


async def test_an_expired_answer_is_not_counted(redis: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(redis, 10), AnswerStoreAdmin(redis)
    await answers.put(tenant, "k", cached_answer(), 0.001)
    while await answers.get(tenant, "k") is not None:
        pass
    assert (await admin.stats(tenant)).entries == 0


async def test_the_least_recently_used_answers_are_evicted(redis: RedisClient, tenant: str) -> None:
    answers = AnswerStore(redis, 2)
    for key in ("a", "b"):
        await answers.put(tenant, key, cached_answer(), DAY)
        time.sleep(0.002)  # noqa: ASYNC251 - so that the lookup times differ, which have millisecond resolution
    await answers.get(tenant, "a")
    await answers.put(tenant, "c", cached_answer(), DAY)
    assert [await answers.get(tenant, key) is not None for key in "abc"] == [True, False, True]


async def test_an_earlier_computation_does_not_replace_a_later_one(redis: RedisClient, tenant: str) -> None:
    answers, now = AnswerStore(redis, 10), time.time()
    assert await answers.put(tenant, "k", cached_answer("New.", now), DAY)
    assert not await answers.put(tenant, "k", cached_answer("Old.", now - 5), DAY)
    stored = await answers.get(tenant, "k")
    assert stored is not None
    assert stored.answer.text == "New."
    assert await answers.put(tenant, "k", cached_answer("Newer.", now + 5), DAY)


async def test_an_oversized_answer_is_not_stored(redis: RedisClient, tenant: str) -> None:
    assert not await AnswerStore(redis, 10).put(tenant, "k", cached_answer("x" * MAX_ENTRY_BYTES), DAY)


async def test_a_computation_that_began_before_a_purge_is_not_stored(redis: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(redis, 10), AnswerStoreAdmin(redis)
    begun = cached_answer()
    await answers.put(tenant, "k", begun, DAY)
    assert set(await admin.purge(tenant)) == {"k"}
    assert not await answers.put(tenant, "k", begun, DAY)
    assert await answers.put(tenant, "k", cached_answer(began=time.time() + 1), DAY)


async def test_an_entry_of_another_version_is_ignored_and_can_be_purged(redis: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(redis, 10), AnswerStoreAdmin(redis)
    await answers.put(tenant, "k", cached_answer(), DAY)
    await redis.put(f"poise:answers:{{{tenant}}}:entry:k", b"1\n{}", DAY)
    assert await answers.get(tenant, "k") is None
    assert await admin.purge(tenant) == {"k": None}


async def test_without_redis_nothing_is_stored(tenant: str) -> None:
    async with RedisClient("redis://127.0.0.1:1/0") as unavailable:
        assert not await AnswerStore(unavailable, 10).put(tenant, "k", cached_answer(), DAY)
        assert await AnswerStore(unavailable, 10).get(tenant, "k") is None
