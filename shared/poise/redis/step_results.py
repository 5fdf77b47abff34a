"""Results of finished steps, and leases on running ones, so that a step that is delivered twice is paid once."""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote

from poise.redis.client import RedisClient
from poise.redis.script import Script

MAX_TTL: Final = 24 * 3_600.0
"""Seconds that a step's reply is kept at most."""

_LEASE: Final = b"L"
_REPLY: Final = b"R"

# A step has one key. It holds a lease (its holder's token) or, once the step has ended, the reply: one value, so that
# neither can be seen without the other, and one key, so that it works on a cluster.
_PUT_UNLESS_CLAIMED: Final = Script(
    """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ''
""",
    writes=True,
)
_RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return ''
""")
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return ''
""")


class ClaimStatus(Enum):
    """The state of a step that has no stored reply."""

    ACQUIRED = "acquired"
    """The caller holds the lease, or has written the reply."""
    HELD_ELSEWHERE = "held elsewhere"
    """Another caller holds the lease."""
    UNKNOWN = "unknown"
    """Redis is unavailable."""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply as it was published: its kind and its bytes."""

    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim to a step: the step's key, and the token that tells this claim from every other one."""

    key: str
    token: str

    @classmethod
    def for_step(cls, *identity: str, token: str) -> "Lease":
        """A lease on the step that `identity` names: tenant, run, step and whatever else tells it apart."""
        # Quoted, so that the parts of one identity cannot be read as those of another.
        return cls("poise:step:" + ":".join(quote(part, safe="/") for part in identity), token)


class StepResultStore:
    """Leases and replies of steps. Each call is one round trip to the cache; without a cache all is `UNKNOWN`."""

    def __init__(self, cache: RedisClient) -> None:
        self._cache = cache

    @property
    def configured(self) -> bool:
        """Whether there is a cache at all, reachable or not."""
        return self._cache.configured

    async def claim(self, lease: Lease, ttl: float) -> ClaimStatus | StoredReply:
        """Take the lease for `ttl` seconds, or read how the step ended, or see that another is at work on it.

        To claim again what is ours renews it.
        """
        mine = _LEASE + lease.token.encode()
        return _decode(await self._cache.evaluate_key(_PUT_UNLESS_CLAIMED, lease.key, mine, mine, _ms(ttl)))

    async def write(self, lease: Lease, reply: StoredReply, ttl: float) -> ClaimStatus | StoredReply:
        """Store how the step ended for `ttl` seconds, and give up the lease; refused if it is another's by now.

        Where nobody holds it (it ran out and nobody came, or the cache lost it) the reply is stored all the same.
        """
        mine, value = _LEASE + lease.token.encode(), _REPLY + reply.kind.encode() + b"\n" + reply.body
        return _decode(
            await self._cache.evaluate_key(_PUT_UNLESS_CLAIMED, lease.key, mine, value, _ms(min(ttl, MAX_TTL)))
        )

    async def renew(self, lease: Lease, ttl: float) -> None:
        """Hold the lease for `ttl` seconds from now, if it is still ours.

        What is gone is not taken again: the step may have ended and been let go of while this was on its way.
        """
        await self._cache.evaluate_key(_RENEW, lease.key, _LEASE + lease.token.encode(), _ms(ttl))

    async def forget(self, lease: Lease, stored: StoredReply) -> None:
        """Let go of how a step ended, if that is still what is stored: it is to be done anew."""
        await self._cache.evaluate_key(_RELEASE, lease.key, _REPLY + stored.kind.encode() + b"\n" + stored.body)

    async def release(self, lease: Lease) -> None:
        """Give up the lease, if it is still ours, without a word on how the step ended."""
        await self._cache.evaluate_key(_RELEASE, lease.key, _LEASE + lease.token.encode())


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


def _decode(found: bytes | None) -> ClaimStatus | StoredReply:
    if found is None:
        return ClaimStatus.UNKNOWN
    if not found:
        return ClaimStatus.ACQUIRED
    if found.startswith(_LEASE):
        return ClaimStatus.HELD_ELSEWHERE
    kind, _, body = found[len(_REPLY) :].partition(b"\n")
    return StoredReply(kind.decode(errors="replace"), body)
