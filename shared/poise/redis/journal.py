"""The history of a run: how its steps ended and in which order, so that a run that is begun again finds them.

One hash per run, one field per step. Whoever opens a history owns it from then on, and only the owner writes: a worker
that stood still for longer than its lease, and goes on beside the one that has its run now, would mix the steps of two
executions, which no third one could follow.
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
from poise.redis.script import Script, ScriptCall
from poise.redis.step_results import MAX_TTL

log = logging.getLogger(__name__)

StepOutcome = Literal["value", "fault", "given-up"]

RETENTION_AFTER_DEADLINE: Final = 60.0
"""Seconds after its deadline for which a run's history stays: later, nobody is left who would wait for the answer."""

# The field without a name holds the owner's token.
_OPEN: Final = Script("""
redis.call('HSET', KEYS[1], '', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
""")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """How a step ended."""

    number: int
    """Its place in the order in which the run's steps ended."""
    outcome: StepOutcome
    description: str
    """What was asked, for whoever reads of a difference: `call generate/1`."""
    digest: str
    """Of what was asked, whole."""
    ms: float
    """Milliseconds that the step took."""
    body: bytes = b""

    def encode(self) -> bytes:
        """One line of JSON, then the body as it is."""
        return (
            json.dumps([self.number, self.outcome, self.description, self.digest, self.ms]).encode() + b"\n" + self.body
        )

    @classmethod
    def parse(cls, raw: bytes) -> "JournalEntry":
        """Read it back.

        Raises:
            ValueError: It is not one.
        """
        head, _, body = raw.partition(b"\n")
        number, outcome, description, digest, ms = json.loads(head)
        if outcome not in {"value", "fault", "given-up"}:
            raise ValueError(f"{outcome!r} is no outcome")
        return cls(int(number), outcome, description, digest, float(ms), body)


class Journal:
    """The history of one execution of a run.

    Args:
        cache: Where it is kept.
        identity: Tenant, run, step, workflow and whatever else tells the run apart.
        ttl: Seconds for which it is kept.
    """

    def __init__(self, cache: RedisClient, *identity: str, ttl: float) -> None:
        self._cache = cache
        self._key = "poise:history:" + ":".join(quote(part, safe="/") for part in identity)
        self._ttl = max(1, round(min(ttl, MAX_TTL) * 1_000))
        self._token = uuid4().hex.encode()
        self._waiting: list[tuple[bytes, bytes, asyncio.Future[bool]]] = []
        self._taken: list[tuple[bytes, bytes, asyncio.Future[bool]]] = []
        self._writing = False
        self._lost = False

    async def open(self) -> Mapping[str, JournalEntry] | None:
        """Own the history, and read it: entries by step id; None = there is no cache, or it holds what cannot be read.

        One round trip.
        """
        found = await self._cache.evaluate(_OPEN, [self._key], self._token, self._ttl)
        if not isinstance(found, list):
            return None
        pairs = dict(zip(found[::2], found[1::2], strict=True))
        pairs.pop(b"", None)
        try:
            return {step.decode(): JournalEntry.parse(raw) for step, raw in pairs.items()}
        except ValueError as error:
            log.warning("the history %s cannot be read, the run starts over: %s", self._key, error)
            return None

    async def write(self, step: str, entry: JournalEntry) -> bool:
        """Keep how a step ended; what was kept of it before is replaced.

        Entries are kept in the order in which this was called, those that come during a round trip together in the
        next one: there is never a later one without an earlier one. To be cancelled does not take an entry back.

        Returns:
            Whether it is kept; if not, none that comes after it may be.
        """
        if self._lost:
            return False
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((step.encode(), entry.encode(), kept))
        if not self._writing:
            self._writing = True
            self._cache.writer.add(self)
        return await kept

    # -- called by BatchWriter ------------------------------------------------------------------------------------

    def take(self) -> ScriptCall:
        """All that waits, to be written now."""
        self._taken, self._waiting = self._waiting, []
        return self._key, [self._token, *(part for step, raw, _ in self._taken for part in (step, raw))]

    def written(self, said: object) -> bool:
        """What the server said of what was taken, None if nothing; whether more has come to be written meanwhile."""
        self._lost = said != b""
        told = self._taken + self._waiting if self._lost else self._taken
        for *_, kept in told:
            if not kept.done():
                kept.set_result(not self._lost)
        self._taken = []
        if self._lost:
            self._waiting = []
        self._writing = bool(self._waiting)
        return self._writing
