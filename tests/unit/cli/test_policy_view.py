import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from poise.cli.explain_view import decision_explanation, interval_bar
from poise.cli.policy_view import (
    action_text,
    decision_page,
    decisions_table,
    format_share,
    policy_page,
    replay_report,
    spec_changes,
    unset_policy_page,
)
from poise.contracts import Draw, Finding, Limits, Policy, PolicySpec, RunRecord, Sample
from poise.contracts.policy import Decision
from poise.contracts.record import Score
from poise.policy.replay import PolicyLogs, ReplayResult
from poise.policy.variant_status import variant_statuses

NOW = 10_000.0
WHY = "cheap answers worse than the others; its share goes from 50 % to 5 %"
LIMITS = (
    "each keeps 5 % · steps of 50 % at most, 20 answers apart · one false alarm in 50 000 answers"
    " · recovered: at most 0.05 worse · quality 0.6 or more · 95 % within 4 s · 95 % cost 0.002 at most"
)
FINDING = Finding(
    variant="cheap",
    about="others",
    method="SR e-detector (Shin et al. 2022)",
    statistic=61_234.4,
    threshold=50_000,
    samples={
        "cheap": Sample(count=412, mean=0.61, low=0.57, high=0.65),
        "others": Sample(count=1_203, mean=0.83, low=0.81, high=0.85),
    },
    runs=("run-1", "run-2"),
    since=9_700.0,
)


def shown(renderable: RenderableType, width: int = 120) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return [" ".join(line.split()) for line in file.getvalue().splitlines() if line.strip()]


def policy(**changed: Any) -> Policy:
    limits = Limits(min_score=0.6, max_latency=4, max_cost=0.002)
    usual: dict[str, Any] = {
        "name": "answer",
        "version": 2,
        "weights": {"steady": 0.95, "cheap": 0.05},
        "spec": PolicySpec(name="answer", weights={"steady": 1, "cheap": 1}, limits=limits),
        "decision": "answer-2",
        "at": NOW - 120,
        "by": "loop",
    }
    return Policy(**usual | changed)


def decision(number: int = 2, action: Any = "roll back", **changed: Any) -> Decision:
    usual: dict[str, Any] = {
        "variant": "cheap",
        "acted": True,
        "reason": WHY,
        "before": {"steady": 0.5, "cheap": 0.5},
        "after": {"steady": 0.95, "cheap": 0.05},
        "version": number,
        "finding": FINDING,
        "by": "loop",
        "at": NOW - 120,
        "next_score_offset": 1_615,
    }
    return Decision(id=f"answer-{number}", policy="answer", action=action, **usual | changed)


def persons(number: int, action: Any, **changed: Any) -> Decision:
    usual: dict[str, Any] = {"variant": None, "finding": None, "by": "jane", "command": f"c{number}"}
    return decision(number, action, **usual | {"reason": f"jane {action}s it"} | changed)


SET = persons(1, "set", before={}, after={"steady": 0.5, "cheap": 0.5})
MOVED = decision()
PROMOTED = decision(
    3,
    "promote",
    before=MOVED.after,
    after={"steady": 0.75, "cheap": 0.25},
    reason="cheap has recovered",
    finding=FINDING.model_copy(update={"statistic": 24.2, "threshold": 20.0}),
)


def score(run: str, variant: str, quality: float | None, **changed: Any) -> Score:
    values = {"raw_ms": 900.0, "raw_cost": 0.001} | ({} if quality is None else {"quality": quality})
    usual: dict[str, Any] = {
        "workflow": "answer", "tenant": "t", "policy": "answer", "policy_version": 1, "probability": 0.5,
        "rung": "primary", "at": NOW, "values": values,
    }  # fmt: skip
    return Score(run_id=run, variant=variant, **usual | changed)


SCORES = [
    score("1", "steady", 0.8),
    score("2", "steady", 1.0),
    score("2", "steady", 0.9),  # scored again
    score("3", "cheap", 0.4),
    score("4", "cheap", None, values={}),  # skipped after failures: no quality
    score("3", "cheap", 1.0, feedback="f"),
]


# -- show --------------------------------------------------------------------------------------------------------------


def test_policy_page_shows_the_weights_in_force() -> None:
    lines = shown(policy_page(policy(), [SET, MOVED], variant_statuses(policy(), [SET, MOVED], SCORES), NOW), 240)
    assert lines == [
        "answer version 2 · by the loop, 2 min ago",
        "variant weight set answers quality 95 % within 95 % cost",
        "steady 95 % 50 % 2 0.85 ±0.10 900 ms 0.001",
        "cheap 5 % 50 % 1 0.40 900 ms 0.001 incident",
        WHY,
        f"limits {LIMITS}",
        "last decrease cheap to the minimum, 2 min ago",
        "poise policy explain answer-2",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_policy_page_fits_the_width_of_the_screen(width: int) -> None:
    rows = variant_statuses(policy(), [SET, MOVED], SCORES)
    table = [line for line in shown(policy_page(policy(), [SET, MOVED], rows, NOW), width) if "0.001" in line]
    assert len(table) == 2


def test_policy_page_marks_a_held_policy_and_a_dry_run() -> None:
    spec = policy().spec.model_copy(update={"dry_run": True})
    [head, *_] = shown(policy_page(policy(held=True, by="jane", spec=spec), [], [], NOW))
    assert head == "answer version 2 · by jane, 2 min ago held: the weights stay dry run: decides, does not act"


@pytest.mark.parametrize(
    ("decisions", "state"),
    [
        ([SET], ""),
        ([SET, MOVED], "incident"),
        ([SET, decision(2, "hold", after={"steady": 0.5, "cheap": 0.5})], "incident"),
        ([SET, MOVED, PROMOTED], "recovery"),
        ([SET, MOVED, persons(3, "hold", before=MOVED.after, after=MOVED.after)], "incident"),
        ([SET, MOVED, persons(3, "set", before=MOVED.after, after=MOVED.after)], "incident"),  # a change of limits only
        ([SET, MOVED, persons(3, "revert", before=MOVED.after, after=MOVED.before)], ""),
        ([SET, MOVED, persons(3, "refuse", before=MOVED.after, after=MOVED.after, acted=False)], "incident"),
    ],
)
def test_policy_page_shows_the_state_of_each_variant(decisions: list[Decision], state: str) -> None:
    lines = shown(policy_page(policy(), decisions, variant_statuses(policy(), decisions, []), NOW))
    [cheap] = [line for line in lines if line.startswith("cheap 5 %")]
    assert cheap == f"cheap 5 % 50 % 0 – – {state}".strip()


def test_page_of_an_unset_policy_shows_the_set_command() -> None:
    lines = shown(unset_policy_page("answer"))
    assert "was never set" in lines[0]
    assert "poise policy set poise.toml" in lines


# -- decisions ---------------------------------------------------------------------------------------------------------


def test_decision_page_shows_the_result_of_a_command() -> None:
    assert shown(decision_page(SET)) == ["answer-1 set: jane sets it", "steady – → 50 %", "cheap – → 50 %"]
    held = persons(3, "hold", before=MOVED.after, after=MOVED.after)
    assert shown(decision_page(held)) == ["answer-3 hold: jane holds it", "steady 95 % stays", "cheap 5 % stays"]


def test_spec_changes_show_the_limits_and_the_dry_run_that_a_revert_restores() -> None:
    now = policy().spec
    earlier = now.model_copy(update={"limits": Limits(), "dry_run": True})
    assert [line.plain for line in spec_changes(now, now)] == []
    limits, dry_run = (line.plain for line in spec_changes(now, earlier))
    assert limits.startswith("limits → each keeps 5 %")
    assert dry_run == "dry run → on"


def test_decisions_table_lists_the_decisions() -> None:
    dry = decision(4, "shift", acted=False)
    assert shown(decisions_table([SET, MOVED, dry], NOW)) == [
        "decision when what",
        "answer-1 2 min ago set",
        "jane sets it",
        "answer-2 2 min ago decrease cheap to the minimum",
        WHY,
        "answer-4 2 min ago would decrease cheap",
        WHY,
    ]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (SET, "set"),
        (persons(2, "set", before=SET.after, after=SET.after, acted=False), "set (no change)"),
        (decision(2, "shift"), "decrease cheap"),
        (PROMOTED, "restore cheap"),
        (PROMOTED.model_copy(update={"acted": False}), "would restore cheap"),
        (decision(3, "promote", before=SET.after, after=SET.after, acted=False), "restore cheap (no change)"),
        (decision(3, "hold", before=SET.after, after=SET.after, acted=False), "share of cheap stays"),
    ],
)
def test_action_text_says_would_only_if_a_share_would_move(made: Decision, text: str) -> None:
    assert action_text(made) == text


def test_replay_report_shows_matching_and_differing_decisions() -> None:
    decisions = [SET, MOVED, PROMOTED]
    logs = PolicyLogs("answer", decisions, {}, [], 0, 0)
    assert shown(replay_report(ReplayResult(0, None, tuple(decisions), 3, None), logs)) == [
        "3 of 3 decisions reproduced from 0 scores and 0 commands"
    ]
    differs = ReplayResult(2, "scores are gone", (PROMOTED,), 0, "answer-3: at was 1.0, and is 2.0 again")
    assert shown(replay_report(differs, logs)) == [
        "answer-1 to answer-2 cannot be replayed: scores are gone",
        "differs answer-3: at was 1.0, and is 2.0 again",
        "0 of 1 decision reproduced from 0 scores and 0 commands",
    ]


# -- explain -----------------------------------------------------------------------------------------------------------

RECORD = RunRecord(
    run_id="run-1",
    workflow="answer",
    tenant="t",
    question="What is\na generator?\x1b[2J",
    started=1.0,
    finished=2.0,
    draw=Draw(variant="cheap", probability=0.5, policy="answer", policy_version=1, raw="A kind of list. " * 40),
)


def test_explanation_of_an_automatic_decision_shows_its_evidence() -> None:
    lines = shown(decision_explanation(MOVED, policy(), {"run-1": RECORD}, NOW), 200)
    assert lines[0].startswith("answer-2 decrease cheap to the minimum by the loop, ")
    assert lines[1] == WHY
    for line in (
        "cheap 412 answers 0.61 ├───●───┤",
        "others 1 203 answers 0.83 ├─●─┤",
        "mean quality, 0 to 1, ├─ with its 95 % confidence interval ─┤",
        "Evidence that cheap is worse than the other variants at the same time: 61 234 reached 50 000.",
        "Without a real change, this happens by chance at most once in 50 000 answers on average.",
        "steady 50 % → 95 %",
        "cheap 50 % → 5 %",
        "run-1 “What is a generator?[2J”",
        "run-2 its record has expired: records are retained for 7 days",
        "poise policy revert --policy answer undo the last change",
        "poise policy hold answer stop the loop from moving weights",
    ):
        assert line in lines
    [method] = [line for line in lines if line.startswith("Method: SR e-detector (Shin et al. 2022). ")]
    assert method.endswith(", 3 min before the decision.")
    begin = lines.index("run-1 “What is a generator?[2J”") + 1
    assert " ".join(lines[begin : begin + 2]) == f"{'A kind of list. ' * 13}"[:200] + "…"


def test_explanation_of_a_recovery_differs_from_that_of_an_alarm() -> None:
    lines = shown(decision_explanation(PROMOTED, policy(held=True), {}, NOW), 200)
    assert "If it still were, it would pass this test with a probability of at most 5 %." in lines
    assert not any("by chance" in line for line in lines)
    assert "poise policy release answer let the loop move weights again" in lines


def test_explanation_shows_that_a_dry_run_changed_nothing() -> None:
    lines = shown(decision_explanation(decision(acted=False), policy(), {}, NOW), 200)
    assert "Nothing: a dry run, or held. It would have set:" in lines
    assert not any("revert" in line for line in lines)


def test_explanation_of_an_operators_decision_shows_no_statistics() -> None:
    refused = persons(3, "refuse", before={}, after={}, acted=False)
    lines = shown(decision_explanation(refused, None, {}, NOW), 200)
    assert lines[0].startswith("answer-3 refuse by jane, ")
    assert lines[2:4] == ["Change", "Nothing."]
    assert "Confidence" not in lines


def test_shares_above_a_ceiling_are_shown_in_percent() -> None:
    slow = FINDING.model_copy(
        update={"about": "latency", "samples": {"cheap": Sample(count=100, mean=0.12, low=0.07, high=0.2)}}
    )
    lines = shown(decision_explanation(decision(finding=slow), policy(), {}, NOW), 200)
    assert "cheap 100 answers 12.0 % ├──────────●─────────────────┤" in lines
    assert "the share that was too slow, ├─ with its 95 % confidence interval ─┤" in lines


@pytest.mark.parametrize(
    ("sample", "drawn"),
    [
        ((0.0, 0.0, 1.0), "●────────┤"),
        ((0.5, 0.25, 0.75), "  ├─●──┤"),
        ((0.5, 0.5, 0.5), "    ●"),
        ((2.0, -1.0, 3.0), "├────────●"),
    ],
)
def test_interval_bar_draws_mean_and_interval(sample: tuple[float, float, float], drawn: str) -> None:
    mean, low, high = sample
    assert interval_bar(Sample(count=1, mean=mean, low=low, high=high), 0.0, 1.0, 10) == drawn


def test_interval_bar_draws_a_point_on_an_axis_of_zero_length() -> None:
    assert interval_bar(Sample(count=1, mean=0.5, low=0.5, high=0.5), 0.5, 0.5) == "●"


@pytest.mark.parametrize(("share", "text"), [(0.05, "5 %"), (1.0, "100 %"), (0.125, "12.5 %"), (0.0, "0 %")])
def test_format_share_rounds_to_percent(share: float, text: str) -> None:
    assert format_share(share) == text
