"""Journal: the outcomes of a run's steps and their order, so that a restarted run can replay them.

One hash per run, one field per step. Opening a journal takes its ownership, and only the owner may write. Otherwise a
worker that was suspended for longer than its lease would resume beside the new owner of its run, and the journal would
mix the steps of two executions, which no third execution could replay.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote
from uuid import uuid4

from poise.redis.client import RedisClient
from poise.redis.lease_store import MAX_TTL
from poise.redis.script import Script, ScriptCall

log = logging.getLogger(__name__)

StepOutcome = Literal["value", "fault", "given-up"]
ABANDONED: Final = "given-up"
"""The stored outcome of a step that the workflow abandoned."""

RETENTION_AFTER_DEADLINE: Final = 60.0
"""Seconds after the run's deadline for which the journal is retained: later, no caller waits for the answer."""

# The field with the empty name holds the owner's token.
_OPEN: Final = Script("""
redis.call('HSET', KEYS[1], '', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
""")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The outcome of a step."""

    number: int
    """Its position in the order in which the run's steps ended."""
    outcome: StepOutcome
    description: str
    """The kind of step, for messages about non-determinism: `call generate/1`."""
    digest: str
    """Digest of the whole request."""
    ms: float
    """Milliseconds that the step took."""
    body: bytes = b""

    def encode(self) -> bytes:
        """Return one line of JSON, followed by the body unchanged."""
        return (
            json.dumps([self.number, self.outcome, self.description, self.digest, self.ms]).encode() + b"\n" + self.body
        )

    @classmethod
    def parse(cls, raw: bytes) -> "JournalEntry":
        """Parse an encoded entry.

        Raises:
            ValueError: The bytes are not an encoded entry.
        """
        head, _, body = raw.partition(b"\n")
        number, outcome, description, digest, ms = json.loads(head)
        if outcome not in {"value", "fault", ABANDONED}:
            raise ValueError(f"{outcome!r} is not an outcome")
        return cls(int(number), outcome, description, digest, float(ms), body)


class Journal:
    """The journal, as one execution of a run uses it.

    Args:
        redis: Where it is stored.
        identity: Tenant, run, step, workflow and further parts that distinguish the run.
        ttl: Seconds for which it is retained.
    """

    def __init__(self, redis: RedisClient, *identity: str, ttl: float) -> None:
        self._redis = redis
        self._key = "poise:history:" + ":".join(quote(part, safe="/") for part in identity)
        self._ttl = max(1, round(min(ttl, MAX_TTL) * 1_000))
        self._token = uuid4().hex.encode()
        self._waiting: list[tuple[bytes, bytes, asyncio.Future[bool]]] = []
        self._in_flight: list[tuple[bytes, bytes, asyncio.Future[bool]]] = []
        self._writing = False
        self._lost = False

    async def open(self) -> Mapping[str, JournalEntry] | None:
        """Take ownership and read the entries by step id; None = Redis is unavailable, or an entry is unreadable.

        One round trip.
        """
        fields = await self._redis.evaluate(_OPEN, [self._key], self._token, self._ttl)
        if not isinstance(fields, list):
            return None
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        pairs.pop(b"", None)
        try:
            return {step.decode(): JournalEntry.parse(raw) for step, raw in pairs.items()}
        except ValueError as error:
            log.warning("the journal %s cannot be read, the run starts over: %s", self._key, error)
            return None

    async def write(self, step: str, entry: JournalEntry) -> bool:
        """Append a step's outcome; an earlier outcome of the same step is replaced.

        Entries are written in the order of the calls, those added during a round trip together in the next one: there
        is never a later entry without an earlier one. Cancelling the call does not withdraw the entry.

        Returns:
            Whether the entry was written; if not, no later one can be.
        """
        if self._lost:
            return False
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((step.encode(), entry.encode(), written))
        if not self._writing:
            self._writing = True
            self._redis.writer.add(self)
        return await written

    # -- called by BatchWriter ------------------------------------------------------------------------------------

    def take_entries(self) -> ScriptCall:
        """Return all waiting entries as one call."""
        self._in_flight, self._waiting = self._waiting, []
        return self._key, [self._token, *(part for step, raw, _ in self._in_flight for part in (step, raw))]

    def complete_write(self, result: object) -> bool:
        """Process the script's result, None if the call failed; return whether more entries are waiting."""
        self._lost = result != b""
        answered = self._in_flight + self._waiting if self._lost else self._in_flight
        for *_, written in answered:
            if not written.done():
                written.set_result(not self._lost)
        self._in_flight = []
        if self._lost:
            self._waiting = []
        self._writing = bool(self._waiting)
        return self._writing
