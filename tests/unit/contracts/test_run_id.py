"""Run ids: they contain the start time, sort by it, and are equal for all copies of an ask."""

from random import Random
from uuid import RFC_4122, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.run_id import _NAMESPACE, derive_run_id, new_run_id, run_started_at

TIMES = st.floats(min_value=0, max_value=4e9)


@given(now=TIMES, seed=st.integers())
def test_new_run_id_is_a_uuid7_with_its_start_time(now: float, seed: int) -> None:
    run_id = new_run_id(now, Random(seed))
    assert UUID(run_id).version == 7
    assert UUID(run_id).variant == RFC_4122
    assert run_started_at(run_id) == int(now * 1000) / 1000


@given(first=TIMES, second=TIMES)
def test_run_ids_sort_by_time(first: float, second: float) -> None:
    random = Random(0)
    if int(first * 1000) < int(second * 1000):
        assert new_run_id(first, random) < new_run_id(second, random)


AT = 1_800_000_000.123


def test_run_ids_of_the_same_time_differ() -> None:
    random = Random(0)
    assert len({new_run_id(1_700_000_000.0, random) for _ in range(1000)}) == 1000


def test_derived_run_id_is_stable() -> None:
    assert derive_run_id("poise.ask.interactive", 3, 42, AT) == "9b5176c6-ebd5-52ae-b9d6-edce0623e6f8"
    assert derive_run_id("poise.ask.interactive", 3, 43, AT) != derive_run_id("poise.ask.interactive", 3, 42, AT)
    assert derive_run_id("poise.ask.interactive", 3, 42, AT + 1) != derive_run_id("poise.ask.interactive", 3, 42, AT)


@given(st.text(), st.integers(0, 2**31), st.integers(0, 2**63))
def test_derived_run_id_is_a_uuid5(topic: str, partition: int, offset: int) -> None:
    expected = uuid5(_NAMESPACE, f"{topic}/{partition}/{offset}/{round(AT * 1_000)}")
    assert derive_run_id(topic, partition, offset, AT) == str(expected)


@given(st.one_of(st.text(), st.uuids(version=4).map(str)))
def test_id_that_is_no_uuid7_has_no_start_time(text: str) -> None:
    assert run_started_at(text) is None


def test_derived_run_id_has_no_start_time() -> None:
    assert run_started_at(derive_run_id("poise.ask.interactive", 0, 0, AT)) is None
