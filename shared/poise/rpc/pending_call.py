"""A call that waits for its reply: accepts only the records that belong to it."""

import asyncio
from typing import Final

from poise.contracts.headers import RUN, STEP
from poise.kafka.record import Record
from poise.rpc.stream_reader import StreamReader, is_event
from poise.telemetry import count, semconv

MAX_EARLY_RECORDS: Final = 64
"""Records to buffer until the position of the request is known: they may arrive before the acknowledgement."""


class PendingCall:
    """Receives the records with a call's correlation id, and compares their run and step with the call's.

    A correlation id cannot be guessed. A client that has learned one, and may write asks, could direct the replies to
    its asks to this call. They name other runs: a run id is set by the gateway, or derived from the position of the ask
    in Kafka.

    Args:
        run: The run that the request names; None = derived from its position, see `request_written`.
        step: The step that the reply must name.
        reader: Receives the events of the stream; None = they are ignored.
    """

    def __init__(self, run: str | None, step: str, reader: StreamReader | None) -> None:
        self.reply: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._run = run
        self._step = step
        self._reader = reader
        self._known = run is not None
        self._early: list[Record] = []

    def request_written(self, run: str | None) -> None:
        """Set the run that was derived from the request's position; None = the position is unknown.

        Without a run, only the step is compared.
        """
        if self._known:
            return
        self._run, self._known = run, True
        early, self._early = self._early, []
        for record in early:
            self.receive(record)

    def receive(self, record: Record) -> None:
        """Receive a reply or a stream event; one that names another run or step is counted and ignored."""
        if not self._known:
            if len(self._early) < MAX_EARLY_RECORDS:
                self._early.append(record)
            return
        event = is_event(record)
        if not self._belongs(record, event=event):
            count(semconv.REPLIES_MISMATCHED)
        elif not event:
            if not self.reply.done():  # the first reply is the outcome
                self.reply.set_result(record)
        elif self._reader is not None:
            self._reader.receive(record)

    def _belongs(self, record: Record, *, event: bool) -> bool:
        """Compare the run, and the step of a reply: an event may come from another step, of a tier further down."""
        if self._run is not None and record.header(RUN) != self._run:
            return False
        return event or record.header(STEP) == self._step
