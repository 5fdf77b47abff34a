"""Receipt: was this message seen already? One of several copies is handled, and all of them are answered alike.

    claimed   nobody has it: handle it under a lease that a heartbeat renews
    stored    it ended before: the same reply goes out again
    held      another copy is being handled: wait for how it ends, or for its lease to run out
    unknown   no cache: handle it, perhaps not for the first time

A holder that stands still for longer than its lease (a stopped process, a blocked event loop) loses the step to another
copy. When it goes on, its write is refused, for the token is not the one that holds the step now, and it answers with
what the other one wrote.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from pydantic import ValidationError

from poise.contracts.fault import Fault
from poise.contracts.message import Message, Request
from poise.errors import DeadlineExceededError
from poise.kafka.handling_slots import parked
from poise.liveness import Component, Liveness
from poise.redis.step_results import ClaimStatus, Lease, StepResultStore, StoredReply
from poise.rpc.encoding import EncodedMessage
from poise.telemetry import count, semconv
from poise.worker.context import Context

log = logging.getLogger(__name__)

REPLY_TTL_AFTER_DEADLINE: Final = 60.0
"""Seconds after its deadline for which a reply stays in the journal: later, nobody is left who would wait for it."""
FIRST_LOOK: Final = 0.02
"""Seconds after which a step that another copy holds is looked at again; each further look waits twice as long."""
LONGEST_LOOK: Final = 0.25
"""Seconds between two looks at most."""
BEATS: Final = 3
"""How often a lease is renewed before it would run out."""


class IdempotencyGuard:
    """The receipts of one worker; `async with`, for the heartbeat that keeps the leases of steps at work.

    Args:
        journal: Where leases and replies are.
        ttl: Seconds that a lease holds without a heartbeat.
        liveness: Of which the heartbeat is a part.
    """

    def __init__(self, journal: StepResultStore, ttl: float, liveness: Liveness) -> None:
        self.journal = journal
        self.ttl = ttl
        self.held: set[Lease] = set()
        self._boot = uuid4().hex
        self._numbers = itertools.count(1)
        self._liveness = liveness
        self._part: Component | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to renew what will be held."""
        if self.journal.configured:
            self._part = self._liveness.component("heartbeat of leases", stalls_after=BEATS * self.ttl)
            self._heartbeat = self._part.run(self._beat(self._part))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Renew no more."""
        if self._part is not None:
            self._part.close()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait({self._heartbeat})

    def of(self, request: Message, context: Context) -> "Claim":
        """The receipt of a message; one without an identity has none that is kept."""
        identity = step_identity(request, context) if self.journal.configured else None
        lease = None if identity is None else Lease.for_step(*identity, token=f"{self._boot}.{next(self._numbers)}")
        return Claim(self, request, context, lease)

    async def _beat(self, part: Component) -> None:
        # One beat for all: a step that is done before the next one costs no renewal.
        while True:
            await asyncio.sleep(self.ttl / BEATS)
            await asyncio.gather(*(self.journal.renew(lease, self.ttl) for lease in self.held))
            part.progress()


class Claim:
    """One message's standing in the journal: `async with receipts.of(…) as receipt`; whoever leaves lets go of it."""

    def __init__(self, receipts: IdempotencyGuard, request: Message, context: Context, lease: Lease | None) -> None:
        self.stored: EncodedMessage | None = None
        """The reply that another copy got; None = handle it."""
        self._receipts = receipts
        self._journal = receipts.journal
        self._request = request
        self._context = context
        self._lease = lease

    async def __aenter__(self) -> Self:
        """See whether it was handled, and wait while another copy of it is; at the deadline stop waiting."""
        self.stored = await self.taken_over()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What was not settled is left to the next copy, at once."""
        lease = self._let_go()
        if lease is not None:
            await self._journal.release(lease)

    async def taken_over(self) -> EncodedMessage | None:
        """How another copy ended, if another one has the step now; None = it is still ours to handle."""
        lease = self._lease
        if lease is None:
            return None
        self._receipts.held.add(lease)  # before the answer comes: it may be lost, and the lease be ours all the same
        reply = await self._until_free(lambda: self._journal.claim(lease, self._receipts.ttl))
        if reply is not None:
            self._let_go()
        return reply

    async def settle(self, reply: EncodedMessage) -> EncodedMessage:
        """Store how the step ended, before it is published.

        Returns:
            What is to be published: this reply, or the one that another copy stored in the meantime.
        """
        if self._lease is None or not is_final(reply.message):
            return reply
        lease, stored = self._lease, StoredReply(reply.kind, reply.body)
        ttl = self._context.remaining() + REPLY_TTL_AFTER_DEADLINE
        other = await self._until_free(lambda: self._journal.write(lease, stored, ttl))
        self._let_go()
        return reply if other is None else other

    async def _until_free(self, attempt: Callable[[], Awaitable[ClaimStatus | StoredReply]]) -> EncodedMessage | None:
        """Try until nobody else is at work on the step; returns how another copy ended, if one has.

        At the deadline a wait ends with a fault for the caller; nothing is held then.
        """
        found = await attempt()
        if found is ClaimStatus.HELD_ELSEWHERE:
            async with parked():
                found = await self._looked_until(attempt)
        if isinstance(found, StoredReply):
            return self._understood(found)
        if found is ClaimStatus.HELD_ELSEWHERE:
            told = f"another worker did not finish step {self._context.step} before its deadline"
            return EncodedMessage.of(DeadlineExceededError(told).fault())
        return None

    async def _looked_until(
        self, attempt: Callable[[], Awaitable[ClaimStatus | StoredReply]]
    ) -> ClaimStatus | StoredReply:
        """Try again until it is not held any more, or its deadline has passed."""
        delay = FIRST_LOOK
        while (left := self._context.remaining()) > 0:
            await asyncio.sleep(min(delay, left))
            delay = min(2 * delay, LONGEST_LOOK)
            if (found := await attempt()) is not ClaimStatus.HELD_ELSEWHERE:
                return found
        return ClaimStatus.HELD_ELSEWHERE

    def _understood(self, stored: StoredReply) -> EncodedMessage | None:
        kinds: dict[str, type[Message]] = {Fault.kind: Fault}
        if isinstance(self._request, Request):
            kinds[self._request.reply.kind] = self._request.reply
        try:
            reply = kinds[stored.kind].parse(stored.body)
        except (KeyError, ValidationError) as error:
            log.warning(
                "the journal's entry for run %s cannot be read, handling it again: %s", self._context.run, error
            )
            self._let_go()
            return None
        count(semconv.DUPLICATES, 1, {semconv.MESSAGING_DESTINATION: self._context.record.topic})
        return EncodedMessage(reply, stored.body)

    def _let_go(self) -> Lease | None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._receipts.held.discard(lease)
        return lease


def step_identity(request: Message, context: Context) -> tuple[str, ...] | None:
    """What makes two messages copies of one another; None where nothing does.

    A message is known by the run and step that a trusted writer gave it, and without them by its place in the log. The
    kind of the request tells steps of two tiers apart; a message that was sent again from a dead-letter topic is meant
    to be handled again, once for each time.
    """
    envelope = context.envelope
    if not isinstance(request, Request):
        return None  # no reply to keep; its handler has to bear a second copy
    if envelope.run == context.run and envelope.step is None:
        return None  # one step of its run, but which one nobody said
    return (context.tenant, context.run, context.step, request.kind, str(envelope.redrives or 0))


def is_final(reply: Message) -> bool:
    """Whether the same work would end the same way again: successes, and faults that are not worth a retry."""
    return not (isinstance(reply, Fault) and reply.retryable)
