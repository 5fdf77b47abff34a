"""Kept answers on a real Valkey: the bounds, and what is not kept."""

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
async def cache(valkey: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(valkey) as cache:
        yield cache


@pytest.fixture
def tenant() -> str:
    return uuid4().hex


def kept(text: str = "It is so.", began: float | None = None) -> CachedAnswer:
    began = time.time() if began is None else began
    answer = Answer(run_id="r", text=text, rung="primary", epoch="e1.AAAA")
    return CachedAnswer(
        answer=answer, began=began, made=began, grounds=(Dependency(document="d", source="d", digest="x"),), ms=1
    )


async def test_it_is_found_as_it_was_kept_by_its_tenant_alone(cache: RedisClient, tenant: str) -> None:
    answers, one = AnswerStore(cache, 10), kept()
    assert await answers.put(tenant, "k", one, DAY)
    assert await answers.get(tenant, "k") == one
    assert await answers.get(tenant + "x", "k") is None
    assert await answers.get(tenant, "other") is None


async def test_it_runs_out_and_leaves_its_place(cache: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(cache, 10), AnswerStoreAdmin(cache)
    await answers.put(tenant, "k", kept(), 0.001)
    while await answers.get(tenant, "k") is not None:
        pass
    assert (await admin.stats(tenant)).entries == 0


async def test_those_used_longest_ago_make_room(cache: RedisClient, tenant: str) -> None:
    answers = AnswerStore(cache, 2)
    for key in ("a", "b"):
        await answers.put(tenant, key, kept(), DAY)
        time.sleep(0.002)  # noqa: ASYNC251 - so that the times of use differ, which are milliseconds
    await answers.get(tenant, "a")
    await answers.put(tenant, "c", kept(), DAY)
    assert [await answers.get(tenant, key) is not None for key in "abc"] == [True, False, True]


async def test_one_that_began_earlier_does_not_replace_one_that_began_later(cache: RedisClient, tenant: str) -> None:
    answers, now = AnswerStore(cache, 10), time.time()
    assert await answers.put(tenant, "k", kept("New.", now), DAY)
    assert not await answers.put(tenant, "k", kept("Old.", now - 5), DAY)
    found = await answers.get(tenant, "k")
    assert found is not None
    assert found.answer.text == "New."
    assert await answers.put(tenant, "k", kept("Newer.", now + 5), DAY)


async def test_one_that_is_too_large_is_not_kept(cache: RedisClient, tenant: str) -> None:
    assert not await AnswerStore(cache, 10).put(tenant, "k", kept("x" * MAX_ENTRY_BYTES), DAY)


async def test_what_began_before_a_purge_is_not_kept(cache: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(cache, 10), AnswerStoreAdmin(cache)
    begun = kept()
    await answers.put(tenant, "k", begun, DAY)
    assert set(await admin.purge(tenant)) == {"k"}
    assert not await answers.put(tenant, "k", begun, DAY)
    assert await answers.put(tenant, "k", kept(began=time.time() + 1), DAY)


async def test_what_another_version_wrote_is_passed_over_and_can_be_purged(cache: RedisClient, tenant: str) -> None:
    answers, admin = AnswerStore(cache, 10), AnswerStoreAdmin(cache)
    await answers.put(tenant, "k", kept(), DAY)
    await cache.put(f"poise:answers:{{{tenant}}}:entry:k", b"1\n{}", DAY)
    assert await answers.get(tenant, "k") is None
    assert await admin.purge(tenant) == {"k": None}


async def test_without_a_cache_nothing_is_kept(tenant: str) -> None:
    async with RedisClient("redis://127.0.0.1:1/0") as absent:
        assert not await AnswerStore(absent, 10).put(tenant, "k", kept(), DAY)
        assert await AnswerStore(absent, 10).get(tenant, "k") is None
