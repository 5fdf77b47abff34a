"""Retry-After: the delay that a server asks for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.resilience.retry_after import parse_retry_after, retry_after_seconds

AT = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("1.5", 1.5),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, AT) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
    ],
)
def test_milliseconds_take_precedence(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, AT) == seconds


numbers = st.integers(0, 10**20).map(str)
dates = st.builds(
    "Mon, {} {} {} {}:{}:{} {}".format,
    numbers,
    st.sampled_from(["Jan", "Oct", "Nov", ""]),
    *([numbers] * 4),
    st.one_of(st.sampled_from(["GMT", "-0000", "", "EST"]), st.integers(-(10**18), 10**18).map("{:+}".format)),
)


@given(st.one_of(dates, st.text("0123456789:,+-. GMTJan", max_size=60)))
def test_the_delay_of_any_date_is_finite_or_none(header: str) -> None:
    seconds = parse_retry_after(header, AT)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@pytest.mark.parametrize("date", ["01 Jan 99999999999 00:00:00 GMT", "1 Jan 0001 00:00:00 +2359", f"{10**19} Jan 2026"])
def test_an_impossible_date_is_ignored(date: str) -> None:
    assert parse_retry_after(f"Mon, {date}", AT) in {None, 0.0}
