"""Records as they come from a client library."""

from aiokafka import ConsumerRecord

from poise.messaging import Record


def test_a_null_header_is_read_as_an_empty_one() -> None:
    headers = (("reply_to", None), ("a", b"b"))
    raw = ConsumerRecord("t", 1, 2, 3_000, 0, b"k", b"v", None, 1, 1, headers)  # type: ignore[arg-type]
    assert Record.of(raw) == Record("t", 1, 2, 3.0, b"k", b"v", (("reply_to", b""), ("a", b"b")))
