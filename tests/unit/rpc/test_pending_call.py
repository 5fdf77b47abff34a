"""Which records belong to a pending call, and which merely have its correlation id."""

import pytest

from poise.contracts import Delta, Envelope, Fault
from poise.contracts.stream import End
from poise.kafka.record import Record
from poise.rpc.pending_call import MAX_EARLY_RECORDS, PendingCall
from poise.rpc.stream_reader import StreamReader

FAULT = Fault(type="urn:poise:failed", title="t", status=500, detail="d", retryable=False)


def reply(run: str | None, step: str | None, body: bytes = FAULT.encode()) -> Record:
    headers = Envelope(run=run, step=step, kind=Fault.kind).headers()
    return Record("poise.replies", 0, 0, 0.0, None, body, headers)


def event(run: str | None, seq: int, text: str = "Well") -> Record:
    headers = Envelope(run=run, kind=Delta.kind, stream="s", seq=seq).headers()
    return Record("poise.replies", 0, 0, 0.0, None, Delta(text=text).encode(), headers)


async def test_first_reply_with_the_run_and_step_of_the_call_is_its_outcome() -> None:
    call = PendingCall("r", "s", None)
    first, second = reply("r", "s"), reply("r", "s", b"{}")
    call.receive(first)
    call.receive(second)
    assert call.reply.result() is first


@pytest.mark.parametrize(("run", "step"), [("other", "s"), ("r", "other"), (None, "s"), ("r", None), (None, None)])
async def test_reply_of_another_run_or_step_is_ignored(run: str | None, step: str | None) -> None:
    call = PendingCall("r", "s", None)
    call.receive(reply(run, step))
    assert not call.reply.done()


async def test_events_of_another_run_are_ignored() -> None:
    reader = StreamReader()
    call = PendingCall("r", "s", reader)
    for run in ("other", None):
        call.receive(event(run, 0, "forged"))
        call.receive(Record("t", 0, 0, 0.0, None, b"{}", Envelope(run=run, kind=End.kind, stream="s", seq=1).headers()))
    call.receive(event("r", 0))
    assert reader._pop() == Delta(text="Well")


async def test_records_for_a_public_call_are_buffered_until_its_request_is_written() -> None:
    reader = StreamReader()
    call = PendingCall(None, "ask", reader)
    call.receive(event("theirs", 0, "forged"))
    call.receive(reply("theirs", "ask"))
    call.receive(event("ours", 0))
    call.receive(reply("ours", "ask"))
    assert not call.reply.done()
    call.request_written("ours")
    assert call.reply.result().header("poise-run") == "ours"
    assert reader._pop() == Delta(text="Well")


async def test_buffered_early_records_are_bounded() -> None:
    call = PendingCall(None, "ask", None)
    for _ in range(10 * MAX_EARLY_RECORDS):
        call.receive(reply("theirs", "ask"))
    assert len(call._early) == MAX_EARLY_RECORDS
    call.request_written("ours")
    assert not call.reply.done()
    assert not call._early


async def test_call_with_an_unknown_position_compares_only_the_step() -> None:
    call = PendingCall(None, "ask", None)
    call.request_written(None)
    call.receive(reply("r", "other"))
    assert not call.reply.done()
    call.receive(reply("r", "ask"))
    assert call.reply.done()
