"""LeaseStore: leases, and the results that replace them, so that a redelivered step runs only once.

Most leases are on steps. Single flights and revalidation marks of the answer cache use the same commands.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote

from poise.redis.client import RedisClient
from poise.redis.script import Script

MAX_TTL: Final = 24 * 3_600.0
"""Maximum number of seconds for which a step's reply is stored."""

_LEASE: Final = b"L"
_REPLY: Final = b"R"

# A step has one key. It holds a lease (the holder's token) or, once the step has finished, the reply. One value: lease
# and reply never contradict each other. One key: it works on a cluster.
_PUT_UNLESS_HELD: Final = Script(
    """
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ''
""",
    empty_result_means_written=True,
)
_RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return ''
""")
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return ''
""")


class LeaseStatus(Enum):
    """The status of a lease on a step that has no stored reply."""

    OWNED = "owned"
    """The step is the caller's: it holds the lease (`acquire`), or its reply is stored (`store`)."""
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
    """A claim on a step: the step's key, and a token that identifies this claim."""

    key: str
    token: str

    @classmethod
    def for_step(cls, *identity: str, token: str) -> "Lease":
        """Return a lease on the step that `identity` names: tenant, run, step and further distinguishing parts."""
        # Quoted, so that different identities never yield the same key.
        return cls("poise:step:" + ":".join(quote(part, safe="/") for part in identity), token)


class LeaseStore:
    """Leases and the replies that replace them. Each call is one round trip; without Redis the result is `UNKNOWN`."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    @property
    def configured(self) -> bool:
        """Whether a Redis is configured, reachable or not."""
        return self._redis.configured

    async def acquire(self, lease: Lease, ttl: float) -> LeaseStatus | StoredReply:
        """Acquire the lease for `ttl` seconds; return the stored reply if the step has finished.

        Acquiring a lease that the caller holds renews it.
        """
        token = _LEASE + lease.token.encode()
        return _decode(await self._redis.evaluate_key(_PUT_UNLESS_HELD, lease.key, token, token, _ms(ttl)))

    async def store(self, lease: Lease, reply: StoredReply, ttl: float) -> LeaseStatus | StoredReply:
        """Store the reply for `ttl` seconds, which releases the lease; refused if another caller holds the lease.

        If nobody holds it (it expired, or Redis lost it), the reply is stored too.
        """
        token, value = _LEASE + lease.token.encode(), _REPLY + reply.kind.encode() + b"\n" + reply.body
        return _decode(
            await self._redis.evaluate_key(_PUT_UNLESS_HELD, lease.key, token, value, _ms(min(ttl, MAX_TTL)))
        )

    async def renew(self, lease: Lease, ttl: float) -> None:
        """Extend the lease to `ttl` seconds from now, if the caller still holds it.

        A lease that is gone is not acquired again: the step may have finished and been deleted while this command was
        in flight.
        """
        await self._redis.evaluate_key(_RENEW, lease.key, _LEASE + lease.token.encode(), _ms(ttl))

    async def discard(self, lease: Lease, stored: StoredReply) -> None:
        """Delete the stored reply, if it is still `stored`, so that the step runs again."""
        await self._redis.evaluate_key(_RELEASE, lease.key, _REPLY + stored.kind.encode() + b"\n" + stored.body)

    async def release(self, lease: Lease) -> None:
        """Release the lease, if the caller still holds it, without storing a reply."""
        await self._redis.evaluate_key(_RELEASE, lease.key, _LEASE + lease.token.encode())


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


def _decode(value: bytes | None) -> LeaseStatus | StoredReply:
    if value is None:
        return LeaseStatus.UNKNOWN
    if not value:
        return LeaseStatus.OWNED
    if value.startswith(_LEASE):
        return LeaseStatus.HELD_ELSEWHERE
    kind, _, body = value[len(_REPLY) :].partition(b"\n")
    return StoredReply(kind.decode(errors="replace"), body)
