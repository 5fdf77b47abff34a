"""Headers with any content: each is decoded, or rejected by its name, and nothing else happens."""

from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poise.contracts import Envelope, EnvelopeError
from poise.contracts.envelope import MAX_HEADER_BYTES, MAX_STREAM_TO_BYTES
from poise.contracts.headers import MESSAGE_HEADERS

NUMBERS = (
    "poise-reply-partition",
    "poise-deadline",
    "poise-attempt",
    "poise-redrives",
    "poise-doc-version",
    "poise-seq",
)
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

numbers = st.one_of(
    st.integers().map(lambda number: str(number).encode()),
    st.integers(1, 9_000).map(lambda digits: b"9" * digits),
    st.sampled_from([b"1e400", b"NaN", b"-0", b"0x1", b"1.5", b"", b"\xc2\xb2", b"\x00", b"18446744073709551616"]),
)
values = st.one_of(st.none(), st.binary(max_size=100), numbers, st.integers(1, 20_000).map(lambda size: b"x" * size))
headers = st.lists(
    st.tuples(st.one_of(st.sampled_from(list(MESSAGE_HEADERS)), st.text(max_size=5)), values), max_size=12
)


def read(given_headers: list[tuple[str, bytes | None]]) -> Envelope | EnvelopeError:
    try:
        return Envelope.read(given_headers)
    except EnvelopeError as error:
        return error


@given(headers)
@example([("poise-deadline", b"9" * 5_000)])
def test_any_headers_are_decoded_or_rejected_by_name(given_headers: list[tuple[str, bytes | None]]) -> None:
    found = read(given_headers)
    if isinstance(found, EnvelopeError):
        assert found.error.field in MESSAGE_HEADERS
        assert found.error.field in dict(given_headers)
        assert len(str(found)) < 300
    else:
        assert Envelope.read(found.headers()) == found


@given(st.sampled_from(NUMBERS), numbers)
def test_any_number_in_a_header_is_bounded_or_rejected(name: str, value: bytes) -> None:
    found = read([(name, value)])
    if isinstance(found, EnvelopeError):
        assert found.error.field == name
    else:
        (number,) = (v for field in fields(found) if isinstance(v := getattr(found, field.name), int))
        assert 0 <= number < 10**18


@given(st.binary(max_size=MAX_HEADER_BYTES))
@example(b"")
@example(bytes(range(256)) * 32)
def test_a_correlation_id_is_any_bytes(correlation_id: bytes) -> None:
    envelope = Envelope(correlation_id=correlation_id, stream_to=b"mine/0/" + correlation_id)
    assert Envelope.read(envelope.headers()) == envelope


def test_header_above_its_length_limit_is_rejected() -> None:
    assert len(Envelope.read([("poise-stream-to", b"x" * MAX_STREAM_TO_BYTES)]).stream_to or b"") == MAX_STREAM_TO_BYTES
    for name, longest in (("correlation_id", MAX_HEADER_BYTES), ("poise-stream-to", MAX_STREAM_TO_BYTES)):
        with pytest.raises(EnvelopeError, match=f"{name}: must be at most {longest} bytes"):
            Envelope.read([(name, b"x" * (longest + 1))])


@pytest.mark.parametrize("name", MESSAGE_HEADERS)
def test_null_header_counts_as_absent(name: str) -> None:
    assert Envelope.read([(name, None)]) == Envelope()
    assert Envelope.read([(name, b"\xff" * 9_000), (name, None)]) == Envelope()


def test_last_value_of_a_repeated_header_counts() -> None:
    repeated = [("poise-deadline", b"soon"), ("poise-deadline", b"5"), ("reply_to", b"\xff"), ("reply_to", b"mine")]
    assert Envelope.read(repeated) == Envelope(deadline=5, reply_to="mine")
    with pytest.raises(EnvelopeError, match="poise-deadline"):
        Envelope.read([("poise-deadline", b"5"), ("poise-deadline", b"soon")])


@pytest.mark.parametrize("name", ["reply_to", "poise-run", "poise-step", "poise-tenant"])
def test_unencodable_header_is_rejected_by_name(name: str) -> None:
    envelope = Envelope(**{name.removeprefix("poise-"): "\ud800"})  # type: ignore[arg-type]
    with pytest.raises(EnvelopeError, match=f"{name}: cannot be encoded as UTF-8"):
        envelope.headers()


# -- trace headers -----------------------------------------------------------------------------------------------------


def test_well_formed_trace_headers_are_preserved() -> None:
    trace = {"traceparent": TRACEPARENT, "tracestate": b"a=1, b@c=2,", "baggage": b"user=ada;p=1,k = v"}
    assert Envelope.read(trace.items()).trace == {name: value.decode() for name, value in trace.items()}
    later = b"01" + TRACEPARENT[2:] + b"-more"
    assert Envelope.read([("traceparent", later)]).trace == {"traceparent": later.decode()}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"x" * 10_000,
        b"00-0-0-00",
        TRACEPARENT.upper(),
        TRACEPARENT + b"-more",
        TRACEPARENT + b"\n",
        b"ff" + TRACEPARENT[2:],
        TRACEPARENT.replace(b"b7ad6b7169203331", b"0" * 16),
        TRACEPARENT.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32),
        b"01" + TRACEPARENT[2:] + b"-" + b"x" * 128,
    ],
)
def test_malformed_traceparent_is_dropped_with_its_tracestate(value: bytes) -> None:
    headers = [("traceparent", value), ("tracestate", b"a=1"), ("baggage", b"k=v")]
    assert Envelope.read(headers).trace == {"baggage": "k=v"}


@pytest.mark.parametrize("value", [b"", b",", b"\xff=1", b"k", b"=v", b"k=v\n", b"k=" + b"v" * 8_192, b"k=v," * 65])
@pytest.mark.parametrize("name", ["tracestate", "baggage"])
def test_malformed_tracestate_and_baggage_are_dropped(name: str, value: bytes) -> None:
    assert Envelope.read([("traceparent", TRACEPARENT), (name, value)]).trace == {"traceparent": TRACEPARENT.decode()}
