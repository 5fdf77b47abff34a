"""What belongs to a call that waits, and what merely came under its correlation id."""

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


async def test_the_first_reply_of_its_own_run_and_step_is_the_outcome() -> None:
    call = PendingCall("r", "s", None)
    first, second = reply("r", "s"), reply("r", "s", b"{}")
    call.receive(first)
    call.receive(second)
    assert call.reply.result() is first


@pytest.mark.parametrize(("run", "step"), [("other", "s"), ("r", "other"), (None, "s"), ("r", None), (None, None)])
async def test_another_run_or_step_ends_no_wait(run: str | None, step: str | None) -> None:
    call = PendingCall("r", "s", None)
    call.receive(reply(run, step))
    assert not call.reply.done()


async def test_events_of_another_run_reach_no_reader() -> None:
    reader = StreamReader()
    call = PendingCall("r", "s", reader)
    for run in ("other", None):
        call.receive(event(run, 0, "forged"))
        call.receive(Record("t", 0, 0, 0.0, None, b"{}", Envelope(run=run, kind=End.kind, stream="s", seq=1).headers()))
    call.receive(event("r", 0))
    assert reader._pop() == Delta(text="Well")


async def test_of_a_call_by_a_public_topic_nothing_counts_before_its_place_is_known() -> None:
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


async def test_what_comes_early_is_bounded() -> None:
    call = PendingCall(None, "ask", None)
    for _ in range(10 * MAX_EARLY_RECORDS):
        call.receive(reply("theirs", "ask"))
    assert len(call._early) == MAX_EARLY_RECORDS
    call.request_written("ours")
    assert not call.reply.done()
    assert not call._early


async def test_where_the_place_is_not_known_the_step_is_compared_alone() -> None:
    call = PendingCall(None, "ask", None)
    call.request_written(None)
    call.receive(reply("r", "other"))
    assert not call.reply.done()
    call.receive(reply("r", "ask"))
    assert call.reply.done()
