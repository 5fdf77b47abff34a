"""`poise cache` shows and purges cached answers, on a real Valkey."""

import json
import re
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from integration_kit import Command

from poise.contracts import Answer
from poise.redis.answer_store import AnswerStore, CachedAnswer, Dependency
from poise.redis.client import RedisClient

pytestmark = pytest.mark.integration


@pytest.fixture
async def tenant(valkey: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Yield a tenant with three cached answers, one of them an hour old, and some counted lookups."""
    monkeypatch.setenv("POISE_REDIS_URL", valkey)
    name = f"a/b:{{{uuid4().hex[:6]}}}"
    async with RedisClient(valkey) as cache:
        answers = AnswerStore(cache, 10)
        for number, (document, age) in enumerate((("one", 0), ("two", 0), ("two", 3_700))):
            computed_at = time.time() - age
            answer = Answer(run_id="r", text=f"Answer {number}.", rung="primary", epoch="e1.AAAA")
            dependency = Dependency(document=document, source=document, digest="d")
            cached = CachedAnswer(
                answer=answer,
                computation_started_at=computed_at,
                computed_at=computed_at,
                dependencies=(dependency,),
                duration_ms=9.0,
            )
            assert await answers.put(name, f"key-{number}", cached, 60)
        for use in ("hits", "hits", "stale", "misses"):
            await answers.count(name, use, 1.5)
        yield name


async def test_stats(poise: Command, tenant: str) -> None:
    shown = await poise("cache", "stats", "--tenant", tenant)
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith(tenant)]
    assert re.split(r"  +", line)[1:2] + re.split(r"  +", line)[3:] == ["3", "2", "1", "0", "1", "75%", "6 s"]
    found = json.loads((await poise("cache", "stats", "--json")).stdout)[tenant]
    assert (found["entries"], found["hits"], found["misses"], found["saved"]) == (3, 2, 1, 6.0)
    assert (found["hit_rate"], found["bytes"] > 300) == (0.75, True)


async def test_stats_of_a_tenant_without_answers(poise: Command, tenant: str) -> None:
    assert "no answer is cached" in (await poise("cache", "stats", "--tenant", f"{tenant}-other")).stdout


async def test_purge_by_document_and_age(poise: Command, tenant: str) -> None:
    async def purged(*how: str) -> str:
        return (await poise("cache", "purge", "--tenant", tenant, *how)).stdout.splitlines()[-1]

    assert await purged("--document", "two", "--dry-run") == "2 cached answers would be purged"
    assert await purged("--document", "three") == "0 cached answers purged: nothing matches"
    assert await purged("--older-than", "1h") == "1 cached answer purged"
    assert await purged("--document", "two") == "1 cached answer purged"
    assert await purged() == "1 cached answer purged"


async def test_an_invalid_age_is_refused(poise: Command, tenant: str) -> None:
    refused = await poise("cache", "purge", "--tenant", tenant, "--older-than", "soon")
    assert refused.exit_code == 2


async def test_without_redis_the_error_names_the_remedy(
    poise: Command, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISE_REDIS_URL", "redis://127.0.0.1:1/0")
    for command in (("stats",), ("purge",), ("stats", "--tenant", tenant)):
        gone = await poise("cache", *command)
        assert gone.exit_code == 1
        assert "Redis does not answer" in gone.stderr
    monkeypatch.delenv("POISE_REDIS_URL")
    none = await poise("cache", "stats")
    assert none.exit_code == 1
    assert "POISE_REDIS_URL" in none.stderr
