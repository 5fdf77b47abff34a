"""The detectors: what they detect, false alarms, and snapshots."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.contracts.policy import Criterion, Finding, Limits
from poise.policy.detection import Detectors, Observation
from tests.benchmarks.detection.traffic import CANARY, KINDS, PRIMARY, Traffic

THREE = ("a", "b", "c")
EVEN = {"a": 0.5, "b": 0.3, "c": 0.2}


def first(detectors: Detectors, traffic: Traffic, most: int, seed: int = 1) -> tuple[int, Finding]:
    """Return the first alarm and the number of answers before it."""
    for number, answer in enumerate(islice(traffic.answers(seed), most)):
        finding = detectors.update(answer)
        if finding is not None:
            return number, finding
    raise AssertionError("nothing was noticed")


def alone(shares: Iterator[float], seed: int = 1) -> Iterator[Observation]:
    """Return the observations of a single variant with this share of wrong answers."""
    chance = random.Random(seed)
    for number, share in enumerate(shares):
        yield Observation(f"run-{number}", "a", 1.0, float(number), loss=float(chance.random() < share))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_canary_that_is_worse_from_the_start_is_detected(share: float) -> None:
    number, finding = first(Detectors((PRIMARY, CANARY), Limits()), Traffic(lambda _: share, good=0), 20_000)
    assert finding.variant == CANARY
    assert finding.about == "others"
    assert finding.statistic >= finding.threshold >= Limits().mean_answers_between_false_alarms
    assert finding.samples[CANARY].count <= 1_000
    assert finding.samples[CANARY].mean < finding.samples[PRIMARY].mean
    assert 1 <= len(finding.runs) <= 10
    assert finding.since <= number


def test_a_shift_of_a_single_variant_is_detected_by_its_own_past() -> None:
    shares = (0.05 if number < 3_000 else 0.2 for number in count())
    detectors = Detectors(("a",), Limits())
    found = next((n, finding) for n, one in enumerate(alone(shares)) if (finding := detectors.update(one)))
    number, finding = found
    assert finding.about == "past"
    assert 3_000 < number < 3_500
    assert 2_900 < finding.since <= number
    assert finding.samples["a"].low <= 0.8 <= finding.samples["a"].high


def test_a_mean_below_the_range_is_detected_without_a_past() -> None:
    detectors = Detectors(("a",), Limits(min_score=0.9))
    findings = (detectors.update(one) for one in islice(alone(0.3 for _ in count()), 300))
    assert next(finding.about for finding in findings if finding is not None) == "range"


@pytest.mark.parametrize(("about", "name"), [("latency", "over_latency"), ("cost", "over_cost")])
def test_answers_above_a_ceiling_are_detected(about: str, name: str) -> None:
    detectors = Detectors(("a", "b"), Limits(max_latency=1.0, max_cost=1.0))
    chance = random.Random(1)
    for number in range(1_000):
        variant = "ab"[number % 2]
        over = chance.random() < (0.3 if variant == "b" else 0.03)
        slow, dear = (over, None) if name == "over_latency" else (None, over)
        finding = detectors.update(
            Observation(f"run-{number}", variant, 0.5, number, loss=0.0, over_latency=slow, over_cost=dear)
        )
        if finding is not None:
            break
    assert finding is not None
    assert (finding.variant, finding.about) == ("b", about)
    assert finding.samples["b"].mean > 0.15


@pytest.mark.parametrize("traffic", KINDS)
def test_false_alarms_are_at_most_as_frequent_as_configured(traffic: str) -> None:
    """Check for at most 60 alarms: 40 are expected at most, and more than 60 have a probability below 0.001."""
    setting, answers = 500, 20_000
    detectors = Detectors((PRIMARY, CANARY), Limits(mean_answers_between_false_alarms=setting))
    found = sum(detectors.update(one) is not None for one in islice(KINDS[traffic](0.3).answers(5), answers))
    assert 2 <= found <= 60


def test_a_traffic_jump_with_a_slow_variant_raises_few_alarms() -> None:
    traffic = Traffic(lambda _: 0.5, wrong=KINDS["jumping"](0.5).wrong, takes={CANARY: 30.0})
    detectors = Detectors((PRIMARY, CANARY), Limits(mean_answers_between_false_alarms=5_000))
    findings = [detectors.update(one) for one in islice(traffic.answers(3), 60_000)]
    assert Counter(one.about for one in findings if one)["others"] <= 12


def test_runs_are_compared_by_their_start_and_not_by_their_end() -> None:
    """Check that late answers of harder traffic do not look like those of a worse variant."""
    traffic = Traffic(lambda _: 0.3, wrong=lambda at: 0.6 if at < 300 else 0.02, takes={CANARY: 30.0})
    detectors = Detectors((PRIMARY, CANARY), Limits())
    assert not [
        one for one in map(detectors.update, islice(traffic.answers(2), 8_000)) if one and one.about == "others"
    ]


def test_a_common_shift_raises_no_alarm() -> None:
    traffic = Traffic(lambda _: 0.5, wrong=lambda at: 0.05 if at < 300 else 0.25)
    for seed in range(3):
        detectors = Detectors((PRIMARY, CANARY), Limits())
        assert not [one for one in map(detectors.update, islice(traffic.answers(seed), 12_000)) if one]


def test_a_repeated_question_is_no_shift() -> None:
    """Repeat a question in one of eight answers, always with a wrong answer."""

    def found(repeated: str | None) -> list[Finding]:
        detectors = Detectors(("a",), Limits())
        findings = []
        for number, one in enumerate(islice(alone(0.05 for _ in count()), 6_000)):
            again = number > 3_000 and number % 8 == 0
            bad, question = (1.0, repeated) if again else (one.loss, f"{number:016x}")
            findings.append(
                detectors.update(Observation(one.run, "a", 1.0, one.finished_at, loss=bad, question=question))
            )
        return [finding for finding in findings if finding is not None]

    assert found(None)
    assert not found("the same")


def test_one_answer_of_an_improbable_variant_raises_no_alarm() -> None:
    detectors = Detectors(("a", "b"), Limits())
    for number in range(2_000):
        assert detectors.update(Observation(f"run-{number}", "a", 0.999, number, loss=0.0)) is None
    assert detectors.update(Observation("one", "b", 0.001, 2_000.0, loss=1.0)) is None


def test_of_three_variants_only_the_worse_one_raises_an_alarm() -> None:
    chance = random.Random(4)
    known, unknown = Detectors(THREE, Limits()), Detectors(THREE, Limits())
    found: Counter[str] = Counter()
    for number in range(3_000):
        variant = chance.choices(THREE, tuple(EVEN.values()))[0]
        bad = float(chance.random() < (0.3 if variant == "c" else 0.05))
        if finding := known.update(Observation(f"{number}", variant, EVEN[variant], number, loss=bad, shares=EVEN)):
            found[f"{finding.variant} {finding.about}"] += 1
        assert unknown.update(Observation(f"{number}", variant, EVEN[variant], number, loss=bad)) is None
    assert list(found) == ["c others"]


def test_a_watched_variant_raises_no_alarm_and_does_not_affect_the_others() -> None:
    chance = random.Random(6)
    detectors = Detectors(THREE, Limits())
    detectors.watch_recovery("c", "others")
    found: Counter[str] = Counter()
    for number in range(4_000):
        variant = chance.choices(THREE, tuple(EVEN.values()))[0]
        bad = float(chance.random() < {"a": 0.05, "b": 0.25, "c": 0.9}[variant])
        if finding := detectors.update(Observation(f"{number}", variant, EVEN[variant], number, loss=bad, shares=EVEN)):
            found[finding.variant] += 1
        assert detectors.recovered("c") is None
    assert list(found) == ["b"]


@pytest.mark.parametrize("about", ["others", "past", "range", "latency"])
def test_a_variant_being_restored_is_watched_for_recovery_and_relapse(about: Criterion) -> None:
    chance = random.Random(8)
    relapsed, recovered = (Detectors((PRIMARY, CANARY), Limits(min_score=0.7, max_latency=1.0)) for _ in range(2))
    for detectors in (relapsed, recovered):
        detectors.watch_recovery(CANARY, about, restoring=True)
    found = None
    for number in range(4_000):
        canary, wrong = chance.random() < 0.5, chance.random() < 0.02
        bad, variant = float(wrong), CANARY if canary else PRIMARY
        recovered.update(Observation(f"{number}", variant, 0.5, number, loss=bad, over_latency=wrong))
        worse = canary and chance.random() < 0.6
        found = found or relapsed.update(
            Observation(f"{number}", variant, 0.5, number, loss=max(bad, worse), over_latency=worse or wrong)
        )
        assert relapsed.recovered(CANARY) is None
    assert found is not None
    assert found.variant == CANARY
    assert recovered.recovered(CANARY) is not None


def slow_canary(detectors: Detectors, first: int, answers: int, share: float) -> Finding | None:
    """Return whether the canary is found to have recovered, given its share of slow answers."""
    chance = random.Random(first)
    for number in range(first, first + answers):
        for variant in (PRIMARY, CANARY):
            slow = variant == CANARY and chance.random() < share
            detectors.update(Observation(f"{number}", variant, 0.5, number, loss=0.0, over_latency=slow))
        if shown := detectors.recovered(CANARY):
            return shown
    return None


def test_the_samples_of_a_recovery_begin_with_the_recovery() -> None:
    detectors = Detectors((PRIMARY, CANARY), Limits(max_latency=1.0))
    detectors.watch_recovery(CANARY, "latency")
    assert slow_canary(detectors, 0, 200, share=0.9) is None
    shown = slow_canary(detectors, 200, 2_000, share=0.0)
    assert shown is not None
    assert 190 <= shown.since <= 260
    assert shown.samples[CANARY].mean < 0.1
    assert shown.samples[CANARY].count > 30
    assert shown.samples[PRIMARY].mean == 0.0


@pytest.mark.parametrize("about", ["latency", "others", "range"])
def test_a_held_variant_that_recovered_long_ago_can_be_saved_and_can_relapse(about: Criterion) -> None:
    limits = Limits(max_latency=1.0, min_score=0.7)
    detectors = Detectors((PRIMARY, CANARY), limits)
    detectors.watch_recovery(CANARY, about)
    for number in range(40_000):
        detectors.update(
            Observation(f"{number}", (PRIMARY, CANARY)[number % 2], 0.5, number, loss=0.0, over_latency=False)
        )
    shown = detectors.recovered(CANARY)
    assert shown is not None
    assert math.isfinite(shown.statistic)
    again = Detectors.restore((PRIMARY, CANARY), limits, json.loads(json.dumps(detectors.snapshot(), allow_nan=False)))
    for number in range(100):
        again.update(
            Observation(
                f"{number}", (PRIMARY, CANARY)[number % 2], 0.5, number, loss=number % 2, over_latency=number % 2 == 1
            )
        )
    assert again.recovered(CANARY) is None


@pytest.mark.parametrize("about", ["others", "past", "range"])
def test_recovery_is_detected_after_the_incident_and_not_during_it(about: str) -> None:
    chance = random.Random(7)
    limits = Limits(min_score=0.7, margin=0.1)
    detectors = Detectors((PRIMARY, CANARY), limits)
    detectors.watch_recovery(CANARY, about)  # type: ignore[arg-type]
    shown = None
    for number in range(20_000):
        canary = chance.random() < 0.2
        share = (0.5 if number < 5_000 else 0.05) if canary else 0.05
        variant, probability = (CANARY, 0.2) if canary else (PRIMARY, 0.8)
        detectors.update(Observation(f"{number}", variant, probability, number, loss=float(chance.random() < share)))
        if shown := detectors.recovered(CANARY):
            break
    assert shown is not None
    assert number > 5_000
    assert (shown.about, shown.threshold) == (about, 20.0)
    detectors.stop_watching(CANARY)
    assert detectors.recovered(CANARY) is None


def test_false_recoveries_are_at_most_one_in_twenty() -> None:
    shown = 0
    for seed in range(60):
        chance = random.Random(seed)
        detectors = Detectors((PRIMARY, CANARY), Limits(margin=0.1))
        detectors.watch_recovery(CANARY, "others")
        for number in range(1_000):
            canary = chance.random() < 0.2
            bad = float(chance.random() < (0.2 if canary else 0.1))
            detectors.update(
                Observation(f"{number}", CANARY if canary else PRIMARY, 0.2 if canary else 0.8, number, loss=bad)
            )
            if detectors.recovered(CANARY):
                shown += 1
                break
    assert shown <= 7  # more with a probability below 0.02 at 5 %


def answer(number: int, chance: random.Random) -> Observation:
    """Return an observation of random values."""
    variant = chance.choices(THREE, tuple(EVEN.values()))[0]
    return Observation(
        run=f"run-{number}",
        variant=variant,
        probability=EVEN[variant],
        finished_at=number - chance.random() * 5,
        loss=chance.choice((None, chance.random() ** 3, float(variant == "c"))),
        over_latency=chance.choice((None, False, False, True)),
        question=chance.choice((None, f"{chance.randrange(300):032x}")),
        started_at=chance.choice((None, number - 9.0)),
        shares=chance.choice((None, EVEN)),
    )


def act(detectors: Detectors, seen: Observation) -> tuple[Finding | None, list[Finding | None]]:
    """Update the detectors as the decider does; return the finding and the recoveries."""
    finding = detectors.update(seen)
    if finding is not None:
        detectors.watch_recovery(finding.variant, finding.about)
    shown = [detectors.recovered(variant) for variant in THREE]
    for one in shown:
        if one is not None:
            detectors.stop_watching(one.variant)
    return finding, shown


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), splits=st.sets(st.integers(0, 599), max_size=5))
def test_a_restored_snapshot_continues_bit_for_bit(seed: int, splits: set[int]) -> None:
    chance = random.Random(seed)
    limits = Limits(mean_answers_between_false_alarms=100, min_score=0.5, max_latency=1.0)
    whole, parts = Detectors(THREE, limits), Detectors(THREE, limits)
    for number in range(600):
        if number in splits:
            parts = Detectors.restore(THREE, limits, json.loads(json.dumps(parts.snapshot(), allow_nan=False)))
        seen = answer(number, chance)
        assert act(whole, seen) == act(parts, seen)
    kept = json.dumps(parts.snapshot(), allow_nan=False)
    assert kept == json.dumps(whole.snapshot(), allow_nan=False)
    assert len(kept) < 50_000


def test_a_snapshot_can_be_restored_with_other_limits_but_not_with_other_variants() -> None:
    kept = Detectors(THREE, Limits()).snapshot()
    detectors = Detectors.restore(THREE, Limits(max_latency=1.0), kept)
    assert detectors.update(Observation("run", "a", 0.5, 1.0, over_latency=True)) is None
    with pytest.raises(ValueError, match="start new detectors"):
        Detectors.restore(("a", "b"), Limits(), kept)


def test_a_snapshot_has_the_structure_of_its_format() -> None:
    """Check the structure: another one needs another `SNAPSHOT_FORMAT`, or an upgraded worker could not restore it."""
    detectors = Detectors((PRIMARY, CANARY), Limits(min_score=0.5, max_latency=1.0, max_cost=1.0))
    for answer in islice(Traffic(lambda _: 0.5, good=0).answers(1), 300):
        detectors.update(answer)
    detectors.watch_recovery(CANARY, "others", restoring=True)
    kept = detectors.snapshot()
    assert kept["format"] == 2
    assert list(kept) == [
        "format", "variants", "number", "at", "bets", "levels", "was", "known", "watched", "baseline", "tally",
    ]  # fmt: skip
    about, past, proofs, restoring = kept["watched"][CANARY]
    assert (about, past, len(proofs), len(proofs[0]), restoring) == ("others", None, 1, 6, True)
    assert [len(part) for part in kept["bets"][PRIMARY]["others"][:1]] == [5]
    sizes = [len(kept["bets"][PRIMARY]["others"]), len(kept["levels"][PRIMARY]), len(kept["levels"][PRIMARY][0])]
    assert sizes == [6, 3, 8]
    assert [len(kept[name]) for name in ("baseline", "tally")] == [4, 2]
