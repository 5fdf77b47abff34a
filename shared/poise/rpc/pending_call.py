"""A call that waits for its reply: only what belongs to it is its outcome, or a part of its stream."""

import asyncio
from typing import Final

from poise.contracts.envelope import RUN, STEP
from poise.kafka.record import Record
from poise.rpc.stream_reader import StreamReader, is_event
from poise.telemetry import count, semconv

MAX_EARLY_RECORDS: Final = 64
"""Records that are kept until it is known where the request stands; they come before the broker's acknowledgement."""


class PendingCall:
    """What comes under a call's correlation id, compared with its run and step.

    The correlation id cannot be guessed. Whoever has learnt it all the same, and may write asks, could have the mesh
    reply to it, but not in the name of this run: that is given by the gateway, or made of the request's place in Kafka.

    Args:
        run: The run that the request names; None = that of its place, see `landed`.
        step: The step that the reply must name.
        reader: Takes the events of its stream; None = nobody does.
    """

    def __init__(self, run: str | None, step: str, reader: StreamReader | None) -> None:
        self.reply: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._run = run
        self._step = step
        self._reader = reader
        self._known = run is not None
        self._early: list[Record] = []

    def landed(self, run: str | None) -> None:
        """Told the run that the request has by its place, where it names none; None = its place is not known.

        Without it the step alone is compared.
        """
        if self._known:
            return
        self._run, self._known = run, True
        early, self._early = self._early, []
        for record in early:
            self.take(record)

    def take(self, record: Record) -> None:
        """Take a reply, or an event of the stream; what names another run or step is counted and ignored."""
        if not self._known:
            if len(self._early) < MAX_EARLY_RECORDS:
                self._early.append(record)
            return
        event = is_event(record)
        if not self._belongs(record, event=event):
            count(semconv.REPLIES_MISMATCHED)
        elif not event:
            if not self.reply.done():  # the first terminal message is the outcome
                self.reply.set_result(record)
        elif self._reader is not None:
            self._reader.take(record)

    def _belongs(self, record: Record, *, event: bool) -> bool:
        """Events name the run alone: they come from a tier further down, in a step of its own."""
        if self._run is not None and record.header(RUN) != self._run:
            return False
        return event or record.header(STEP) == self._step
