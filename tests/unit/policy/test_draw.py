import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from source_tree import source_files

from poise.contracts.run_id import derive_run_id
from poise.policy.draw import Choice, draw

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class WeightedVariant:
    name: str
    weight: float


weights = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)
runs = st.uuids().map(str)


def ways(given: Sequence[float]) -> list[WeightedVariant]:
    return [WeightedVariant(f"way-{number}", weight) for number, weight in enumerate(given)]


def drawn(given: Sequence[float], run: str, version: int = 1, secret: bytes = b"secret") -> Choice[WeightedVariant]:
    return draw(ways(given), run=run, policy="answer", version=version, secret=secret)


@settings(max_examples=30)
@given(weights, st.integers(0, 2**64))
def test_each_variant_is_drawn_in_proportion_to_its_weight(given: list[int], salt: int) -> None:
    number = 500
    found = Counter(drawn(given, f"{salt}/{run}").variant.name for run in range(number))
    for way in ways(given):
        share = way.weight / sum(given)
        six_sigma = 6 * math.sqrt(number * share * (1 - share))
        assert abs(found[way.name] - number * share) <= six_sigma


@given(weights, runs)
def test_a_replayed_run_draws_the_same_variant(given: list[int], run: str) -> None:
    assert drawn(given, run) == drawn(given, run)


@given(weights, runs)
def test_a_drawn_variant_has_weight_and_states_its_probability(given: list[int], run: str) -> None:
    choice = drawn(given, run)
    assert choice.variant.weight > 0
    assert choice.probability == choice.variant.weight / sum(given)


@given(st.lists(st.floats(0, 1e9, allow_subnormal=False), min_size=1, max_size=8).filter(any), runs)
def test_any_weights_draw_a_variant(given: list[float], run: str) -> None:
    choice = drawn(given, run)
    assert choice.variant.weight > 0
    assert 0 <= choice.probability <= 1


@given(weights, runs, st.floats(0.5, 8))
def test_only_the_proportions_of_the_weights_count(given: list[int], run: str, factor: float) -> None:
    power = 2.0 ** round(factor)  # scaling by a power of two is exact
    assert drawn(given, run).variant.name == drawn([weight * power for weight in given], run).variant.name


def test_a_new_version_of_the_policy_changes_the_draws() -> None:
    every = [str(UUID(int=number)) for number in range(1_000)]
    same = sum(drawn([1, 1], run, 1) == drawn([1, 1], run, 2) for run in every)
    assert 400 < same < 600


def test_another_secret_changes_the_draws() -> None:
    every = [str(UUID(int=number)) for number in range(1_000)]
    same = sum(drawn([1, 1], run) == drawn([1, 1], run, secret=b"another secret") for run in every)
    assert 400 < same < 600


@settings(max_examples=10)
@given(st.binary(min_size=16, max_size=64), st.binary(min_size=16, max_size=64))
def test_a_client_that_knows_its_run_ids_cannot_choose_its_variant(secret: bytes, guess: bytes) -> None:
    """Select the asks that draw the wanted variant with a guessed secret; with the real one they draw both equally."""
    assume(secret != guess)
    places = (derive_run_id("poise.ask.interactive", 0, offset, 1_790_000_000.0) for offset in range(4_000))
    chosen = [run for run in places if drawn([1, 1], run, secret=guess).variant.name == "way-0"]
    got = sum(drawn([1, 1], run, secret=secret).variant.name == "way-0" for run in chosen)
    six_sigma = 6 * math.sqrt(len(chosen) / 4)
    assert abs(got - len(chosen) / 2) <= six_sigma


def test_orchestration_alone_draws() -> None:
    """Check that other code, such as a replay, reads the draw from the record and needs no secret."""
    draws = re.compile(r"from poise\.policy(\.draw)? import .*\b(draw|uniform)\b")
    drawing = {
        str(path.relative_to(ROOT)) for _, path in source_files() if draws.search(path.read_text(encoding="utf-8"))
    }
    assert drawing - {"shared/poise/policy/__init__.py"} == {"services/poise_services/orchestration/active_policy.py"}


def test_renaming_moves_nothing() -> None:
    every = [str(UUID(int=number)) for number in range(100)]
    other = [WeightedVariant("new", 1.0), WeightedVariant("old", 2.0)]
    before = [drawn([1.0, 2.0], run).variant.name for run in every]
    after = [draw(other, run=run, policy="answer", version=1, secret=b"secret").variant.name for run in every]
    assert [{"new": "way-0", "old": "way-1"}[name] for name in after] == before


@pytest.mark.parametrize("given", [[], [0.0], [0.0, 0.0]])
def test_drawing_without_any_weight_is_an_error(given: list[float]) -> None:
    with pytest.raises(ValueError, match="policy answer: no variant has a weight"):
        drawn(given, "run")
