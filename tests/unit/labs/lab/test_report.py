import pytest

from poise.contracts.policy import Decision, Finding, Limits, Policy, PolicySpec
from poise_labs.cli.lab_view import cells, markdown
from poise_labs.lab.experiment import ExperimentArm, LabRequest
from poise_labs.lab.report import ArmReport, ScenarioReport, auc, detection_of, false_alarms, moved, report_of, restored
from poise_labs.lab.scenario import Degradation, LabVariant, Scenario

VARIANTS = (LabVariant(name="steady", weight=1), LabVariant(name="cheap", weight=1))
SCENARIO = Scenario(
    name="s",
    about="x",
    asks=400,
    rate=10,
    variants=VARIANTS,
    degradation=Degradation(variant="cheap", begins=100, ends=400),
)
QUIET = SCENARIO.model_copy(update={"degradation": None})


def request(number: int, **fields: object) -> LabRequest:
    usual: dict[str, object] = {
        "number": number, "sent": 1_000.0 + number / 10, "seconds": 0.5, "rung": "primary", "misled": False,
        "drawn": "cheap" if number % 2 else "steady", "during_degradation": SCENARIO.is_degraded(number), "hurt": False,
        "right": True, "quality": 0.6, "score": number, "counted": True,
    }  # fmt: skip
    return LabRequest(**(usual | fields))  # type: ignore[arg-type]


def decision(action: str, variant: str, scores: int, number: int = 1) -> Decision:
    finding = Finding(variant=variant, about="others", method="m", statistic=2.0, threshold=1.0, samples={}, since=0.0)
    return Decision.model_validate(
        {
            "id": f"s-{number}",
            "policy": "s",
            "action": action,
            "variant": variant,
            "acted": True,
            "reason": "why",
            "before": {},
            "after": {},
            "version": 1,
            "finding": finding.model_dump(),
            "by": "loop",
            "at": 0.0,
            "next_score_offset": scores,
        }
    )


def policy(**weights: float) -> Policy:
    spec = PolicySpec(name="s", weights={"steady": 3, "cheap": 1}, limits=Limits())
    return Policy(name="s", version=1, weights=weights, spec=spec, decision="s-1", at=0.0, by="loop")


def arm(*decisions: Decision, loop: bool = True, **fields: object) -> ExperimentArm:
    requests = tuple(request(number, **fields) for number in range(400))
    return ExperimentArm(loop, 1, requests, tuple((1_030.0, one) for one in decisions), ())


def test_detection_counts_the_variants_answers_since_the_degradation_began() -> None:
    found = detection_of(SCENARIO, arm(decision("shift", "cheap", 180)))
    assert found is not None
    assert found.answers == 40  # every second one of the scores 100 to 179
    assert found.seconds == pytest.approx(20.0)


def test_alarm_before_the_degradation_or_about_another_variant_is_false() -> None:
    early, other = decision("shift", "cheap", 90), decision("roll back", "steady", 200, 2)
    told = arm(early, other)
    assert detection_of(SCENARIO, told) is None
    assert false_alarms(SCENARIO, told) == [early, other]


def test_consecutive_decreases_are_one_alarm_until_a_promotion() -> None:
    steps = [decision("shift", "cheap", 50), decision("roll back", "cheap", 70)]
    again = [decision("promote", "cheap", 200), decision("shift", "cheap", 300)]
    assert len(false_alarms(QUIET, arm(*steps))) == 1
    assert len(false_alarms(QUIET, arm(*steps, *again))) == 2


def test_alarm_about_the_degradation_is_not_false() -> None:
    assert false_alarms(SCENARIO, arm(decision("shift", "cheap", 180))) == []


def test_restored_is_the_last_time_above_the_limit() -> None:
    hurt = {110, 120, 130, 140, 150, 160}
    requests = [request(number, hurt=number in hurt) for number in range(400)]
    # The sixth comes with 160, and 110 leaves the last hundred with 210: above 5 % from 160 to 209.
    assert restored(requests, 0.05) == pytest.approx((209 - 100) / 10)


def test_restored_is_zero_if_never_above_the_limit_and_none_if_above_it_at_the_end() -> None:
    assert restored([request(number) for number in range(400)], 0.05) == 0.0
    assert restored([request(number, hurt=number > 390) for number in range(400)], 0.05) is None


def test_moved_is_measured_from_the_set_weights() -> None:
    told = ExperimentArm(
        True, 1, (), (), ((0.0, policy(steady=0.75, cheap=0.25)), (1.0, policy(steady=0.98, cheap=0.02)))
    )
    assert moved(told) == pytest.approx(0.23)


def test_fall_is_that_of_the_share_of_requests_during_the_degradation() -> None:
    off = report_of(SCENARIO, arm(loop=False, hurt=True))
    on = report_of(SCENARIO, ExperimentArm(True, 1, tuple(request(n, hurt=n % 10 == 0) for n in range(400)), (), ()))
    assert ScenarioReport(SCENARIO, 1, (off, on)).fall == pytest.approx(1 - 40 / 300 / (400 / 300))
    assert ScenarioReport(SCENARIO, 1, (on,)).fall is None


def test_arm_with_an_early_false_alarm_has_no_fall() -> None:
    off = report_of(SCENARIO, arm(loop=False, hurt=True))
    on = report_of(SCENARIO, arm(decision("roll back", "cheap", 90)))
    assert on.early
    assert not report_of(SCENARIO, arm(decision("roll back", "cheap", 180))).early
    assert ScenarioReport(SCENARIO, 1, (off, on)).fall is None


def test_rungs_are_counted_during_the_degradation() -> None:
    requests = [request(number, rung="extractive" if number == 50 else "primary") for number in range(400)]
    found = report_of(SCENARIO, ExperimentArm(True, 1, tuple(requests), (), ()))
    assert found.rungs == {"primary": 300}
    assert (found.troubled, found.waited) == (300, 0.5)


def test_auc_of_separated_tied_and_uniform_labels() -> None:
    assert auc([(0.9, True), (0.8, True), (0.1, False)]) == 1.0
    assert auc([(0.5, True), (0.5, False)]) == 0.5
    assert auc([(0.1, True), (0.5, True), (0.5, False), (0.2, False)]) == pytest.approx(0.375)
    assert auc([(0.5, True)]) is None


def test_row_summarizes_an_arm() -> None:
    told: ArmReport = report_of(SCENARIO, arm(decision("shift", "cheap", 180)))
    row = cells(ScenarioReport(SCENARIO, 1, (told,)), told)
    assert row[:8] == ("s", "1", "on", "40 answers, 20.0 s", "0.0 s", "0 of 300", "-", "0")
    assert markdown([ScenarioReport(SCENARIO, 1, (told,))]).count("\n") == 2
