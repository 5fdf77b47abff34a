from balance_kit import act

from poise.contracts.policy import Decision, Finding, Sample
from poise_labs.balance.summary import summary_lines
from poise_labs.balance.timeline import Timeline


def decided(action: str, before: float, after: float, *, by: str = "loop", acted: bool = True) -> Decision:
    samples = {
        name: Sample(count=30, mean=mean, low=0.2, high=0.9) for name, mean in (("steady", 0.8), ("second", 0.4))
    }
    finding = Finding(
        variant="second", about="others", method="m", statistic=2.0, threshold=1.0, samples=samples, since=0.0
    )
    return Decision.model_validate(
        {
            "id": f"balance-{action}",
            "policy": "balance",
            "action": action,
            "variant": "second",
            "acted": acted,
            "reason": "why",
            "before": {"steady": 1 - before, "second": before},
            "after": {"steady": 1 - after, "second": after},
            "version": 2,
            "finding": finding,
            "by": by,
            "at": 0.0,
            "next_score_offset": 1,
        }
    )


def lines_of(timeline: Timeline, *decisions: Decision, failed: int = 0) -> list[str]:
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in summary_lines(timeline, decisions, failed=failed)]


def test_an_act_is_summarized_in_five_lines() -> None:
    timeline = act()
    lines = lines_of(timeline, decided("roll back", 0.5, 0.2), decided("promote", 0.2, 0.5))
    assert [line.split("  ")[0] for line in lines] == ["Fault", "Noticed", "Decreased", "Restored", "Total"]
    assert f"after {timeline.answers_between('fault', 'noticed', 'second')} answers of second" in lines[1]
    assert "0:45 min later" in lines[1]
    assert "second: 50 % → 20 % of the asks; quality 0.40 against 0.80 (balance-roll back)" in lines[2]
    assert "20 % → 50 %" in lines[3]
    assert f"{len(timeline.answers)} answers in 3:20 min, no ask failed" in lines[4]


def test_a_fault_that_is_not_noticed_is_reported() -> None:
    lines = lines_of(act(until=90.0), failed=3)
    assert lines[1].startswith("Not noticed")
    assert "no weight moved" in lines[2]
    assert "3 asks failed" in lines[3]


def test_a_weight_that_is_not_restored_is_reported() -> None:
    lines = lines_of(act(until=150.0), decided("roll back", 0.5, 0.2))
    assert lines[-2].startswith("Not restored")


def test_without_a_fault_only_weight_changes_are_listed() -> None:
    quiet = act(fault=False)
    assert lines_of(quiet, decided("set", 0.5, 0.5, by="you"))[0] == "Weights      no weight moved."
    assert "0.40 against" in lines_of(quiet, decided("shift", 0.5, 0.2))[0], "a false alarm is listed too"
