"""AnswerStore: the answer cache in Redis: entries with the documents they depend on, LRU eviction, purges and counters.

The keys of a tenant all have the hash tag `{tenant}`, so that one script can use them together on a cluster too:

    poise:answers:{tenant}:entry:<key>   an answer: when its computation began (unix ms), a line feed, the rest as JSON
    poise:answers:{tenant}:used          the entries' keys, by the time of the last lookup: evicted in this order
    poise:answers:{tenant}:counts        the number of lookups, by result
    poise:answers:{tenant}:flight:<key>  the lease on computing an answer, then its result for some seconds
    poise:answers:{tenant}:purged        when an operator last purged (unix ms): older computations are not stored

What can go wrong, and what then holds:

- Two workers compute the same answer at once (a lease expired, or Redis lost it). The one that began last is stored:
  its retrieval is the most recent. Like any entry, it is revalidated when it is read.
- An operator purges while an answer is computed. The computation began before the purge, so its result is not stored.
- Redis loses its data. Nothing is found and all answers are computed again; an answer is never assembled from several
  keys.
- An entry expires and its key stays in `used`. It takes up room there until it is looked up, listed or evicted, so
  there are never more entries than keys, nor more keys than `max_entries`.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poise.contracts import Answer
from poise.errors import SetupError, UnavailableError
from poise.redis.client import RedisClient
from poise.redis.script import Script

MAX_ENTRY_BYTES: Final = 256 * 1024
"""Maximum size of an entry in bytes; larger ones are not stored."""
PURGE_MARKER_TTL: Final = 7 * 3_600
"""Seconds for which a purge is remembered: no run lasts longer."""
READ_BATCH_SIZE: Final = 500
"""Entries that an operator's command reads per round trip."""

LookupResult = Literal["hits", "stale", "shared", "misses"]
"""The result of a lookup: a fresh answer, a stale one that was sent, another caller's concurrent answer, or none."""

_GET: Final = Script("""
local entry = redis.call('GET', KEYS[1])
if entry then redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[1]) else redis.call('ZREM', KEYS[2], ARGV[1]) end
return entry or ''
""")
_PUT: Final = Script(
    """
local began = tonumber(ARGV[3])
if began <= tonumber(redis.call('GET', KEYS[3]) or -1) then return 'purged' end
local current = redis.call('GET', KEYS[1])
if current and tonumber(string.match(current, '^%d+')) > began then return 'older' end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if over > 0 then
    for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do
        redis.call('DEL', ARGV[7] .. key)
        redis.call('ZREM', KEYS[2], key)
    end
end
return ''
""",
    empty_result_means_written=True,
)
_COUNT_LOOKUP: Final = Script(
    """
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
if tonumber(ARGV[2]) > 0 then redis.call('HINCRBY', KEYS[1], 'saved', ARGV[2]) end
return ''
""",
    empty_result_means_written=True,
)
_READ_COUNTERS: Final = Script("return redis.call('HGETALL', KEYS[1])")
_LIST_KEYS: Final = Script("return redis.call('ZRANGE', KEYS[1], 0, -1)")
_READ_ENTRIES: Final = Script("""
local entries = {}
for number, key in ipairs(ARGV) do
    entries[number] = redis.call('GET', KEYS[2] .. key) or ''
    if entries[number] == '' then redis.call('ZREM', KEYS[1], key) end
end
return entries
""")
_DELETE: Final = Script("""
for _, key in ipairs(ARGV) do
    redis.call('DEL', KEYS[2] .. key)
    redis.call('ZREM', KEYS[1], key)
end
return ''
""")
_MARK_PURGED: Final = Script("""
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ''
""")


class Dependency(BaseModel):
    """A document that an answer depends on, and its content at that time."""

    model_config = ConfigDict(frozen=True)

    document: str
    source: str
    digest: str | None
    """Digest of its content; None = unknown, so a change cannot be detected."""


class CachedAnswer(BaseModel):
    """A computed answer, and what is needed to revalidate it."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    answer: Answer
    computation_started_at: float = Field(alias="began")  # the name in Redis
    """When its computation started, unix seconds: later changes are not reflected."""
    computed_at: float = Field(alias="made")  # the name in Redis
    """When its computation ended, unix seconds."""
    dependencies: tuple[Dependency, ...] = Field(alias="grounds")  # the name in Redis
    duration_ms: float = Field(alias="ms", ge=0)  # the name in Redis
    """Duration of the computation in milliseconds."""
    time_available: float | None = Field(default=None, alias="had")  # the name in Redis
    """Seconds that the computation could have taken until its deadline; None = unknown."""

    def encode(self) -> bytes:
        """Return the stored form."""
        return b"%d\n%b" % (
            round(self.computation_started_at * 1_000),
            self.model_dump_json(exclude_none=True).encode(),
        )

    @classmethod
    def decode(cls, raw: bytes) -> "CachedAnswer | None":
        """Parse a stored entry; None if it is invalid, or was written by another version of Poise."""
        try:
            return cls.model_validate_json(raw.partition(b"\n")[2])
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class AnswerStoreStats:
    """Size and use of a tenant's cached answers."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    stale: int = 0
    shared: int = 0
    misses: int = 0
    saved: float = 0.0
    """Seconds of waiting that cached answers saved the callers."""

    @property
    def lookups(self) -> int:
        """The number of lookups."""
        return self.hits + self.stale + self.shared + self.misses

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups with a cached answer, fresh or stale; None = there were no lookups."""
        return (self.hits + self.stale) / self.lookups if self.lookups else None


def hash_key_parts(parts: Mapping[str, object]) -> str:
    """Return the key of an answer: a hash of everything that determines it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class AnswerStore:
    """The cached answers of all tenants.

    Each call is one round trip. Without Redis nothing is found and nothing is stored.

    Args:
        redis: Where they are stored.
        max_entries: Maximum number of entries per tenant.
    """

    def __init__(self, redis: RedisClient, max_entries: int) -> None:
        self._redis = redis
        self._max_entries = max_entries

    async def get(self, tenant: str, key: str) -> CachedAnswer | None:
        """Return the cached answer of a key, fresh or stale; None = there is none."""
        keys = [_entry_prefix(tenant) + key, _usage_key(tenant)]
        raw = await self._redis.evaluate(_GET, keys, key.encode(), round(time.time() * 1_000))
        return CachedAnswer.decode(raw) if isinstance(raw, bytes) and raw else None

    async def put(self, tenant: str, key: str, entry: CachedAnswer, ttl: float) -> bool:
        """Store an answer for `ttl` seconds; the least recently used ones are evicted.

        Returns:
            Whether it was stored: not if it is too large, an operator has purged since its computation began, an answer
            whose computation began later is stored, or Redis is unavailable.
        """
        raw = entry.encode()
        if len(raw) > MAX_ENTRY_BYTES:
            return False
        result = await self._redis.evaluate(
            _PUT,
            [_entry_prefix(tenant) + key, _usage_key(tenant), _purge_key(tenant)],
            key.encode(),
            raw,
            round(entry.computation_started_at * 1_000),
            max(1, round(ttl * 1_000)),
            round(time.time() * 1_000),
            self._max_entries,
            _entry_prefix(tenant).encode(),
        )
        return result == b""

    async def count(self, tenant: str, result: LookupResult, saved: float = 0.0) -> None:
        """Count the result of a lookup, and the seconds that it saved."""
        await self._redis.evaluate(
            _COUNT_LOOKUP, [_counters_key(tenant)], result.encode(), max(0, round(saved * 1_000))
        )


class AnswerStoreAdmin:
    """The cached answers, for operators' commands.

    Raises:
        SetupError: No Redis is configured.
        UnavailableError: Redis does not answer (each call).
    """

    def __init__(self, redis: RedisClient) -> None:
        if not redis.configured:
            raise SetupError(
                "no Redis is configured, so no answers are cached: set POISE_REDIS_URL, or run this in the folder "
                "with the stack's .poise"
            )
        self._redis = redis

    async def tenants(self) -> list[str]:
        """Return the tenants with entries or counters."""
        names = await self._redis.scan_keys(f"{_PREFIX}{{*}}:*")
        self._check()
        return sorted({unquote(name.removeprefix(f"{_PREFIX}{{").partition("}")[0]) for name in names})

    async def stats(self, tenant: str) -> AnswerStoreStats:
        """Return the size and use of a tenant's cached answers."""
        counters = await self._redis.evaluate(_READ_COUNTERS, [_counters_key(tenant)])
        self._check()
        flat = counters if isinstance(counters, list) else []
        by_name = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        sizes = [len(raw) async for _, raw in self._entries(tenant)]
        return AnswerStoreStats(
            entries=len(sizes),
            bytes=sum(sizes),
            hits=by_name.get("hits", 0),
            stale=by_name.get("stale", 0),
            shared=by_name.get("shared", 0),
            misses=by_name.get("misses", 0),
            saved=by_name.get("saved", 0) / 1_000,
        )

    async def select(
        self, tenant: str, *, document: str | None = None, computed_before: float | None = None
    ) -> dict[str, CachedAnswer | None]:
        """Return a tenant's answers by key.

        Args:
            tenant: The tenant.
            document: Only answers that depend on this document.
            computed_before: Only answers computed before this time, unix seconds.

        Returns:
            The entries; None = an unreadable entry, which matches every filter.
        """
        selected: dict[str, CachedAnswer | None] = {}
        async for key, raw in self._entries(tenant):
            entry = CachedAnswer.decode(raw)
            if entry is None or (
                (document is None or any(dependency.document == document for dependency in entry.dependencies))
                and (computed_before is None or entry.computed_at < computed_before)
            ):
                selected[key] = entry
        return selected

    async def purge(
        self, tenant: str, *, document: str | None = None, computed_before: float | None = None
    ) -> dict[str, CachedAnswer | None]:
        """Delete the answers that `select` finds, and return them; results of running computations are not stored.

        The purge is marked first. An answer stored before the mark is found and deleted. An answer stored later began
        either before the mark, and is refused, or after it, and then it reflects what the operator knew.
        """
        await self._redis.evaluate(_MARK_PURGED, [_purge_key(tenant)], round(time.time() * 1_000), PURGE_MARKER_TTL)
        selected = await self.select(tenant, document=document, computed_before=computed_before)
        keys = list(selected)
        for first in range(0, len(keys), READ_BATCH_SIZE):
            batch = [key.encode() for key in keys[first : first + READ_BATCH_SIZE]]
            await self._redis.evaluate(_DELETE, [_usage_key(tenant), _entry_prefix(tenant)], *batch)
        self._check()
        return selected

    async def _entries(self, tenant: str) -> AsyncIterator[tuple[str, bytes]]:
        listed = await self._redis.evaluate(_LIST_KEYS, [_usage_key(tenant)])
        self._check()
        keys = listed if isinstance(listed, list) else []
        for first in range(0, len(keys), READ_BATCH_SIZE):
            batch = keys[first : first + READ_BATCH_SIZE]
            values = await self._redis.evaluate(_READ_ENTRIES, [_usage_key(tenant), _entry_prefix(tenant)], *batch)
            self._check()
            for key, raw in zip(batch, values if isinstance(values, list) else [], strict=True):
                if raw:
                    yield key.decode(), raw

    def _check(self) -> None:
        if not self._redis.available:
            raise UnavailableError("Redis does not answer: check with `poise status` whether it runs, or try again")


_PREFIX: Final = "poise:answers:"


def _tenant_prefix(tenant: str) -> str:
    return f"{_PREFIX}{{{quote(tenant, safe='')}}}:"


def single_flight_key(tenant: str, key: str) -> str:
    """Return the key of the lease on computing an answer, and of its result for some seconds."""
    return f"{_tenant_prefix(tenant)}flight:{key}"


def _entry_prefix(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}entry:"


def _usage_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}used"


def _counters_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}counts"


def _purge_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}purged"
