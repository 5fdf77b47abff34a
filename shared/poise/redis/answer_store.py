"""Answers that are kept: what they rest on, where they are, how many at most, and how often they were of use.

By tenant there are, all with the tag `{tenant}` so that one script sees them together on a cluster too:

    poise:answers:{tenant}:entry:<key>   an answer: when its making began (unix ms), a line feed, the rest as JSON
    poise:answers:{tenant}:used          the keys, by when each was last looked at: the one used longest ago goes first
    poise:answers:{tenant}:counts        how often, by what came of it
    poise:answers:{tenant}:purged        when a person last purged (unix ms): what was begun before is not kept

What can go wrong, and what then holds:

- Two make the same answer at once (the lease of one ran out, or Redis forgot it). The one that began last stays: it
  was answered from what was found last. Whether it still stands is seen when it is read, as of every entry.
- A person purges while an answer is being made. It began before, so it is not kept, whenever it comes.
- Redis loses its data. Nothing is found, and all is made anew; an answer is never put together from several keys.
- An entry runs out by itself and its key stays in `used`: it takes up room there until it is looked for, listed or
  pushed out, so there are never more entries than keys, nor more keys than may be.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poise.contracts import Answer
from poise.errors import SetupError, UnavailableError
from poise.redis.client import RedisClient
from poise.redis.script import Script

MAX_ENTRY_BYTES: Final = 256 * 1024
"""Bytes of an entry at most: a larger one is not kept."""
PURGE_MARKER_TTL: Final = 7 * 3_600
"""Seconds for which a purge is known: no run that began before it lasts longer."""
READ_BATCH_SIZE: Final = 500
"""Entries read at once by a person's command."""

LookupResult = Literal["hits", "stale", "shared", "misses"]
"""What came of looking: a fresh answer, one sent though it was stale, one made at the same time, none."""

_GET: Final = Script("""
local found = redis.call('GET', KEYS[1])
if found then redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[1]) else redis.call('ZREM', KEYS[2], ARGV[1]) end
return found or ''
""")
_PUT: Final = Script(
    """
local began = tonumber(ARGV[3])
if began <= tonumber(redis.call('GET', KEYS[3]) or -1) then return 'purged' end
local there = redis.call('GET', KEYS[1])
if there and tonumber(string.match(there, '^%d+')) > began then return 'older' end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if over > 0 then
    for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do
        redis.call('DEL', ARGV[7] .. key)
        redis.call('ZREM', KEYS[2], key)
    end
end
return 'kept'
""",
    writes=True,
)
_COUNT_LOOKUP: Final = Script(
    """
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
if tonumber(ARGV[2]) > 0 then redis.call('HINCRBY', KEYS[1], 'saved', ARGV[2]) end
return ''
""",
    writes=True,
)
_READ_COUNTERS: Final = Script("return redis.call('HGETALL', KEYS[1])")
_LIST_KEYS: Final = Script("return redis.call('ZRANGE', KEYS[1], 0, -1)")
_READ_ENTRIES: Final = Script("""
local found = {}
for number, key in ipairs(ARGV) do
    found[number] = redis.call('GET', KEYS[2] .. key) or ''
    if found[number] == '' then redis.call('ZREM', KEYS[1], key) end
end
return found
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
    """A document that an answer rests on, and what it said then."""

    model_config = ConfigDict(frozen=True)

    document: str
    source: str
    digest: str | None
    """Of what it said; None = that is not known, so it cannot be told whether it still does."""


class CachedAnswer(BaseModel):
    """An answer that was worked out, and what is needed to tell whether it still stands."""

    model_config = ConfigDict(frozen=True)

    answer: Answer
    began: float
    """When working it out began, unix seconds: it knows nothing that was said later."""
    made: float
    """When it was there, unix seconds."""
    grounds: tuple[Dependency, ...]
    ms: Annotated[float, Field(ge=0)]
    """Milliseconds that it took."""
    had: float | None = None
    """Seconds that there were for it; None = that is not known."""

    def encode(self) -> bytes:
        """As it is kept."""
        return b"%d\n%b" % (round(self.began * 1_000), self.model_dump_json(exclude_none=True).encode())

    @classmethod
    def decode(cls, raw: bytes) -> "CachedAnswer | None":
        """Read it; None if it is none, or one that another version of Poise wrote."""
        try:
            return cls.model_validate_json(raw.partition(b"\n")[2])
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class AnswerStoreStats:
    """How a tenant's kept answers stand."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    stale: int = 0
    shared: int = 0
    misses: int = 0
    saved: float = 0.0
    """Seconds that those who asked did not wait."""

    @property
    def asks(self) -> int:
        """How often something was looked for."""
        return self.hits + self.stale + self.shared + self.misses

    @property
    def hit_rate(self) -> float | None:
        """The share of those that a kept answer answered, marked as stale or not; None = nobody looked."""
        return (self.hits + self.stale) / self.asks if self.asks else None


def hash_key_parts(parts: Mapping[str, object]) -> str:
    """The key of an answer: a hash of all that makes it what it is."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class AnswerStore:
    """The kept answers of all tenants. Each call is one round trip; without a cache nothing is found and nothing kept.

    Args:
        cache: Where they are.
        max_entries: How many of a tenant at most.
    """

    def __init__(self, cache: RedisClient, max_entries: int) -> None:
        self._cache = cache
        self._max_entries = max_entries

    async def get(self, tenant: str, key: str) -> CachedAnswer | None:
        """The answer under a key, if there is one, whether or not it still stands."""
        keys = [_entry_prefix(tenant) + key, _usage_key(tenant)]
        found = await self._cache.evaluate(_GET, keys, key.encode(), round(time.time() * 1_000))
        return CachedAnswer.decode(found) if isinstance(found, bytes) and found else None

    async def put(self, tenant: str, key: str, entry: CachedAnswer, ttl: float) -> bool:
        """Keep an answer for `ttl` seconds; those used longest ago make room.

        Returns:
            Whether it is kept: not if it is too large, a person has purged since it was begun, one that was begun later
            is there, or the cache is absent.
        """
        raw = entry.encode()
        if len(raw) > MAX_ENTRY_BYTES:
            return False
        found = await self._cache.evaluate(
            _PUT,
            [_entry_prefix(tenant) + key, _usage_key(tenant), _purge_key(tenant)],
            key.encode(),
            raw,
            round(entry.began * 1_000),
            max(1, round(ttl * 1_000)),
            round(time.time() * 1_000),
            self._max_entries,
            _entry_prefix(tenant).encode(),
        )
        return found == b"kept"

    async def count(self, tenant: str, use: LookupResult, saved: float = 0.0) -> None:
        """Count what came of looking, and the seconds that it saved."""
        await self._cache.evaluate(_COUNT_LOOKUP, [_counters_key(tenant)], use.encode(), max(0, round(saved * 1_000)))


class AnswerStoreAdmin:
    """The kept answers, as people look at them and purge them.

    Raises:
        SetupError: There is no cache to ask.
        UnavailableError: It does not answer (each call).
    """

    def __init__(self, cache: RedisClient) -> None:
        if not cache.configured:
            raise SetupError(
                "no Redis is named, so no answers are kept: give POISE_REDIS_URL, or go where the stack's .poise is"
            )
        self._cache = cache

    async def tenants(self) -> list[str]:
        """Those of whom anything is kept or counted."""
        names = await self._cache.scan_keys(f"{_PREFIX}{{*}}:*")
        self._check()
        return sorted({unquote(name.removeprefix(f"{_PREFIX}{{").partition("}")[0]) for name in names})

    async def stats(self, tenant: str) -> AnswerStoreStats:
        """How a tenant's answers stand."""
        found = await self._cache.evaluate(_READ_COUNTERS, [_counters_key(tenant)])
        self._check()
        flat = found if isinstance(found, list) else []
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
        self, tenant: str, *, document: str | None = None, made_before: float | None = None
    ) -> dict[str, CachedAnswer | None]:
        """A tenant's answers by key: those that rest on a document, those made before (unix seconds), or all.

        None = one that cannot be read, which fits whatever is looked for.
        """
        found: dict[str, CachedAnswer | None] = {}
        async for key, raw in self._entries(tenant):
            entry = CachedAnswer.decode(raw)
            if entry is None or (
                (document is None or any(ground.document == document for ground in entry.grounds))
                and (made_before is None or entry.made < made_before)
            ):
                found[key] = entry
        return found

    async def purge(
        self, tenant: str, *, document: str | None = None, made_before: float | None = None
    ) -> dict[str, CachedAnswer | None]:
        """Have answers forgotten, and those not kept that are being worked out now; returns the former, see `select`.

        The mark comes first: what was kept before it is found, what would be kept after it was begun before or after
        it. In the first case it is refused, in the second it knows what the person who purges knew.
        """
        await self._cache.evaluate(_MARK_PURGED, [_purge_key(tenant)], round(time.time() * 1_000), PURGE_MARKER_TTL)
        found = await self.select(tenant, document=document, made_before=made_before)
        keys = list(found)
        for first in range(0, len(keys), READ_BATCH_SIZE):
            some = [key.encode() for key in keys[first : first + READ_BATCH_SIZE]]
            await self._cache.evaluate(_DELETE, [_usage_key(tenant), _entry_prefix(tenant)], *some)
        self._check()
        return found

    async def _entries(self, tenant: str) -> AsyncIterator[tuple[str, bytes]]:
        found = await self._cache.evaluate(_LIST_KEYS, [_usage_key(tenant)])
        self._check()
        keys = found if isinstance(found, list) else []
        for first in range(0, len(keys), READ_BATCH_SIZE):
            some = keys[first : first + READ_BATCH_SIZE]
            raws = await self._cache.evaluate(_READ_ENTRIES, [_usage_key(tenant), _entry_prefix(tenant)], *some)
            self._check()
            for key, raw in zip(some, raws if isinstance(raws, list) else [], strict=True):
                if raw:
                    yield key.decode(), raw

    def _check(self) -> None:
        if not self._cache.available:
            raise UnavailableError("Redis does not answer: see with `poise status` whether it runs, or try again")


_PREFIX: Final = "poise:answers:"


def _tenant_prefix(tenant: str) -> str:
    return f"{_PREFIX}{{{quote(tenant, safe='')}}}:"


def single_flight_key(tenant: str, key: str) -> str:
    """Where the lease on working an answer out is, and for some seconds what came of it."""
    return f"{_tenant_prefix(tenant)}flight:{key}"


def _entry_prefix(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}entry:"


def _usage_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}used"


def _counters_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}counts"


def _purge_key(tenant: str) -> str:
    return f"{_tenant_prefix(tenant)}purged"
