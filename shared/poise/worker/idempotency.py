"""Idempotency: of several copies of a message one is handled, and every copy gets the same reply.

    acquired         no other copy is known: handle the message under a lease that a heartbeat renews
    stored           a copy ended before: publish the stored reply again
    held elsewhere   another copy is being handled: wait for its reply, or until its lease expires
    unknown          Redis is absent: handle the message, perhaps not for the first time

A worker that stalls for longer than its lease loses the step to another copy. When it continues, its write is rejected,
because its token no longer holds the step, and it publishes the reply that the other copy stored.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from poise.contracts.fault import Fault
from poise.contracts.message import Message, Request
from poise.errors import DeadlineExceededError
from poise.kafka.handling_slots import parked
from poise.redis.lease import LeaseHolder, poll_intervals
from poise.redis.lease_store import Lease, LeaseStatus, StoredReply
from poise.rpc.encoding import EncodedMessage
from poise.telemetry import count, semconv
from poise.worker.context import Context

log = logging.getLogger(__name__)

REPLY_TTL_AFTER_DEADLINE: Final = 60.0
"""Seconds after its deadline for which a reply is stored: no caller waits for longer."""

TryLease = Callable[[], Awaitable[LeaseStatus | StoredReply]]
"""Tries to acquire the lease of a step, or to replace it by the reply."""


class IdempotencyGuard:
    """Claims steps, so that copies of a message are handled once.

    Args:
        leases: Holds the leases of the steps in progress.
    """

    def __init__(self, leases: LeaseHolder) -> None:
        self._leases = leases

    def claim(self, request: Message, context: Context) -> "Claim":
        """Return the claim to a message's step. Messages without an identity are not deduplicated."""
        identity = step_identity(request, context) if self._leases.configured else None
        lease = None if identity is None else Lease.for_step(*identity, token=self._leases.new_token())
        return Claim(self._leases, request, context, lease)


class Claim:
    """One copy's claim to its step: `async with guard.claim(…) as claim`; leaving releases it."""

    def __init__(self, leases: LeaseHolder, request: Message, context: Context, lease: Lease | None) -> None:
        self.reply: EncodedMessage | None = None
        """What to send instead of handling: another copy's reply, or the fault of a wait that reached the deadline."""
        self._leases = leases
        self._request = request
        self._context = context
        self._lease = lease

    async def __aenter__(self) -> Self:
        """Acquire the step; while another copy holds it, wait until the deadline."""
        self.reply = await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the step, unless its reply is stored: the next copy can acquire it at once."""
        lease = self._drop_lease()
        if lease is not None:
            await self._leases.release(lease)

    async def acquire(self) -> EncodedMessage | None:
        """Acquire the step, or acquire it again; return what to send instead of handling, None if the step is ours."""
        lease = self._lease
        if lease is None:
            return None
        reply = await self._try_until_free(lambda: self._leases.acquire(lease))
        if reply is not None:
            self._drop_lease()
        return reply

    async def store_result(self, reply: EncodedMessage | None) -> EncodedMessage | None:
        """Store the reply of the step, if it has one, before it is published.

        Returns:
            The reply to publish: this one, or the one that another copy stored in the meantime.
        """
        if reply is None or self._lease is None or not is_final(reply.message):
            return reply
        lease, result = self._lease, StoredReply(reply.kind, reply.body)
        ttl = self._context.remaining() + REPLY_TTL_AFTER_DEADLINE
        other = await self._try_until_free(lambda: self._leases.store(lease, result, ttl))
        self._drop_lease()
        return reply if other is None else other

    async def _try_until_free(self, try_lease: TryLease) -> EncodedMessage | None:
        """Try until no other copy holds the step; return the other copy's reply, if there is one.

        A wait that reaches the deadline returns a fault; the step is then not ours.
        """
        status = await try_lease()
        if status is LeaseStatus.HELD_ELSEWHERE:
            async with parked():
                status = await self._poll(try_lease)
        if isinstance(status, StoredReply):
            return self._decode(status)
        if status is LeaseStatus.HELD_ELSEWHERE:
            reason = f"another worker did not finish step {self._context.step} before its deadline"
            return EncodedMessage.of(DeadlineExceededError(reason).fault())
        return None

    async def _poll(self, try_lease: TryLease) -> LeaseStatus | StoredReply:
        """Try again until the step is not held elsewhere, or the deadline has passed."""
        intervals = poll_intervals()
        while (left := self._context.remaining()) > 0:
            await asyncio.sleep(min(next(intervals), left))
            if (status := await try_lease()) is not LeaseStatus.HELD_ELSEWHERE:
                return status
        return LeaseStatus.HELD_ELSEWHERE

    def _decode(self, stored: StoredReply) -> EncodedMessage | None:
        reply_types: dict[str, type[Message]] = {Fault.kind: Fault}
        if isinstance(self._request, Request):
            reply_types[self._request.reply.kind] = self._request.reply
        try:
            reply = reply_types[stored.kind].parse(stored.body)
        except (KeyError, ValidationError) as error:
            log.warning("the stored reply of run %s cannot be read, handling it again: %s", self._context.run, error)
            self._drop_lease()
            return None
        count(semconv.DUPLICATES, 1, {semconv.MESSAGING_DESTINATION: self._context.record.topic})
        return EncodedMessage(reply, stored.body)

    def _drop_lease(self) -> Lease | None:
        """Stop renewing the lease, and return it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._leases.stop_renewing(lease)
        return lease


def step_identity(request: Message, context: Context) -> tuple[str, ...] | None:
    """Return what copies of a message have in common; None if it has no identity.

    A message is identified by the run and step that a trusted writer set, otherwise by its position in the log. The
    request's kind distinguishes the steps of two tiers. A redriven message is handled again, once for each redrive.
    """
    envelope = context.envelope
    if not isinstance(request, Request):
        return None  # no reply to store: its handler must tolerate a second copy
    if envelope.run == context.run and envelope.step is None:
        return None  # an unnamed step of its run
    return (context.tenant, context.run, context.step, request.kind, str(envelope.redrives or 0))


def is_final(reply: Message) -> bool:
    """Return whether the same work would end the same way again: a success, or a fault that is not retryable."""
    return not (isinstance(reply, Fault) and reply.retryable)
