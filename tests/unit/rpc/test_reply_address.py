"""Reply addresses: which are accepted, and what each rejection says."""

import pytest

from poise.contracts import Envelope
from poise.errors import InvalidMessageError
from poise.kafka.record import Record
from poise.rpc.reply_address import ReplyAddress, ReplyAddressResolver

TOPICS = {"poise.replies": 12, "mine": 3, "poise.policy": 1}


async def partitions(topic: str) -> int | None:
    return TOPICS.get(topic)


ADDRESSES = ReplyAddressResolver(partitions)


@pytest.mark.parametrize(
    ("envelope", "address"),
    [
        (Envelope(), None),
        (Envelope(reply_to="mine", correlation_id=b"c\xff"), ReplyAddress("mine", None, b"c\xff")),
        (Envelope(reply_to="mine", reply_partition=2), ReplyAddress("mine", 2, None)),
        (Envelope(reply_to="poise.replies", reply_partition=11), ReplyAddress("poise.replies", 11, None)),
    ],
)
async def test_allowed_reply_address_is_resolved(envelope: Envelope, address: ReplyAddress | None) -> None:
    assert await ADDRESSES.resolve(envelope) == address


@pytest.mark.parametrize(
    ("envelope", "field", "said"),
    [
        (Envelope(reply_to="nowhere"), "reply_to", "does not exist"),
        (Envelope(reply_to="poise.policy"), "reply_to", "reserved for Poise"),
        (Envelope(reply_to="poise.not-even-there"), "reply_to", "reserved for Poise"),
        (Envelope(reply_to="poise.replies"), "poise-reply-partition", "is required"),
        (Envelope(reply_to="mine", reply_partition=3), "poise-reply-partition", "0 to 2"),
    ],
)
async def test_forbidden_reply_address_is_rejected(envelope: Envelope, field: str, said: str) -> None:
    with pytest.raises(InvalidMessageError, match=said) as caught:
        await ADDRESSES.resolve(envelope)
    assert [error.field for error in caught.value.errors] == [field]


async def test_best_effort_address_ignores_other_malformed_headers() -> None:
    headers = (
        ("reply_to", b"mine"),
        ("correlation_id", b"\xff"),
        ("poise-deadline", b"soon"),
        ("poise-reply-partition", b"9" * 5_000),
    )
    record = Record("t", 0, 0, 0.0, None, b"", headers)
    assert await ADDRESSES.resolve_best_effort(record) == ReplyAddress("mine", None, b"\xff")
    assert await ADDRESSES.resolve_best_effort(Record("t", 0, 0, 0.0, None, b"", (("reply_to", b"nowhere"),))) is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("poise-reply-partition", b"9" * 18),
        ("reply_to", b"\xff"),
        ("reply_to", b"x" * 100_000),
        ("correlation_id", b"x" * 100_000),
    ],
)
async def test_best_effort_address_is_none_if_a_reply_cannot_carry_it(header: str, value: bytes) -> None:
    headers = (("reply_to", b"mine"), ("correlation_id", b"c"), (header, value))
    assert await ADDRESSES.resolve_best_effort(Record("t", 0, 0, 0.0, None, b"", headers)) is None


@pytest.mark.parametrize(
    ("stream_to", "fits"),
    [
        (b"mine/1/c", True),
        (b"mine/1", True),
        (b"mine/1/another", False),
        (b"mine/1/", False),
        (b"mine/2/c", False),
        (b"poise.replies/1/c", False),
    ],
)
async def test_stream_of_a_public_request_goes_only_to_its_reply_address(stream_to: bytes, fits: bool) -> None:
    envelope = Envelope(reply_to="mine", reply_partition=1, correlation_id=b"c", stream_to=stream_to)
    if fits:
        assert await ADDRESSES.resolve_stream(envelope, public=True) == ReplyAddress("mine", 1, b"c")
    else:
        with pytest.raises(InvalidMessageError, match="must be the message's own"):
            await ADDRESSES.resolve_stream(envelope, public=True)
    assert await ADDRESSES.resolve_stream(envelope, public=False) is not None
