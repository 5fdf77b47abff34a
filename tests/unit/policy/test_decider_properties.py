"""Properties of the decider: snapshots and duplicates change nothing, and a replay gives the same decisions."""

from collections.abc import Sequence

import pytest
from decider_kit import POLICY, chained, operator_command, score_of, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.contracts.policy import Decision, Policy, PolicyCommand, PolicySpec, PolicyState
from poise.contracts.record import Score
from poise.policy.decider import Decider
from poise.policy.weights import normalize

pytestmark = pytest.mark.usefixtures("_plain")

SPECS = (
    spec({"a": 5, "b": 3, "c": 2}, step=0.2, cooldown_answers=2),
    spec({"a": 5, "b": 3, "c": 2}, step=0.5, cooldown_answers=1),
    spec({"a": 1, "b": 1, "c": 0}),
    spec({"a": 1, "b": 1, "c": 1}, dry_run=True),
    spec({"a": 4, "b": 3, "c": 2, "d": 1}, step=0.3, cooldown_answers=3, min_share=0.1),
    spec({"a": 7, "b": 3}, step=0.2, cooldown_answers=4),
    spec({"b": 1}),
    spec({"b": 0}),
)
Event = Score | PolicyCommand

bursts = st.tuples(st.just("burst"), st.sampled_from(("a", "b", "c", "d")), st.booleans(), st.integers(1, 12))
sets = st.tuples(st.just("set"), st.sampled_from(SPECS))
others = st.tuples(st.sampled_from(("hold", "release", "revert")), st.one_of(st.none(), st.integers(1, 6)))
histories = st.lists(st.one_of(bursts, bursts, bursts, sets, others), max_size=25)


def events_of(history: Sequence[tuple[object, ...]]) -> list[Event]:
    """Generate scores and commands in order; the first command sets a policy."""
    events: list[Event] = [operator_command("set", 0, spec=SPECS[0])]
    for number, (kind, *rest) in enumerate(history, start=1):
        match kind, rest:
            case "burst", [str(variant), bool(good), int(count)]:
                events += [score_of(f"{number}-{each}", variant, good=good, at=float(number)) for each in range(count)]
            case "set", [PolicySpec() as set_]:
                events.append(operator_command("set", number, spec=set_))
            case _, [version]:
                events.append(operator_command(kind, number, version=version if kind == "revert" else None))
    return events


def feed(decider: Decider, event: Event, offset: int) -> list[Decision]:
    if isinstance(event, PolicyCommand):
        return decider.apply_command(event, at=float(offset))
    return decider.apply_score(event, offset)


def fed(events: Sequence[Event]) -> tuple[Decider, list[Decision]]:
    """Return a decider that got all input, with the index of each score as its offset, and the decisions."""
    decider, decisions = Decider(POLICY), []
    for place, event in enumerate(events):
        decisions += feed(decider, event, place)
    return decider, decisions


def restored(decider: Decider) -> Decider:
    """Return a copy restored from its encoded snapshot, as the next owner of the partition does."""
    state = PolicyState(name=POLICY, next_score_offset=0, next_command_offset=0, decider=decider.snapshot())
    return Decider.restore(PolicyState.parse(state.encode()).decider)


@given(histories, st.sets(st.integers(0, 150)))
def test_restoring_at_any_point_gives_the_same_decisions(history: list[tuple[object, ...]], cuts: set[int]) -> None:
    events = events_of(history)
    whole, expected = fed(events)
    decider, decisions = Decider(POLICY), []
    for place, event in enumerate(events):
        if place in cuts:
            decider = restored(decider)
        decisions += feed(decider, event, place)
    assert decisions == expected
    assert decider.snapshot() == whole.snapshot()


@given(histories, st.lists(st.tuples(st.integers(0, 150), st.integers(0, 150)), max_size=30))
def test_repeated_input_changes_nothing(history: list[tuple[object, ...]], again: list[tuple[int, int]]) -> None:
    events = events_of(history)
    decider, decisions = Decider(POLICY), []
    for place, event in enumerate(events):
        decisions += feed(decider, event, place)
        for after, which in again:
            if after == place and which <= place:
                earlier = events[which]
                # A score without a variant of the policy was not counted: it may have one of the next policy.
                if isinstance(earlier, PolicyCommand) or earlier.run_id in counted_runs(events[: which + 1]):
                    assert feed(decider, earlier, place) == []
    assert [places_aside(made) for made in decisions] == [places_aside(made) for made in fed(events)[1]]


def places_aside(decision: Decision) -> Decision:
    """Return a decision without its offset, which depends on duplicates in the log of scores."""
    return decision.model_copy(update={"next_score_offset": 0})


def counted_runs(events: Sequence[Event]) -> set[str]:
    """Return the runs that are counted."""
    decider, found = Decider(POLICY), set()
    for place, event in enumerate(events):
        before = decider.answers_counted
        feed(decider, event, place)
        if decider.answers_counted > before and isinstance(event, Score):
            found.add(event.run_id)
    return found


@given(histories)
def test_a_replay_from_the_log_gives_the_same_decisions(history: list[tuple[object, ...]]) -> None:
    events = events_of(history)
    _, decisions = fed(events)
    commands = {event.id: event for event in events if isinstance(event, PolicyCommand)}
    # what the log has: scores at their offsets, and by each command's decision, before which of them it was done
    pending = [decision for decision in decisions if decision.command is not None]
    decider, replayed = Decider(POLICY), []
    for offset, event in enumerate(events):
        if isinstance(event, PolicyCommand):
            continue
        while pending and pending[0].next_score_offset <= offset:
            done = pending.pop(0)
            replayed += decider.apply_command(commands[done.command or ""], at=done.at)
        replayed += decider.apply_score(event, offset)
    for done in pending:
        replayed += decider.apply_command(commands[done.command or ""], at=done.at)
    assert replayed == decisions


@settings(max_examples=200)
@given(histories)
def test_decisions_chain_and_weights_stay_inside_the_limits(history: list[tuple[object, ...]]) -> None:
    events = events_of(history)
    decider, decisions = Decider(POLICY), []
    for place, event in enumerate(events):
        before, held = decider.policy, decider.policy is not None and decider.policy.held
        made = feed(decider, event, place)
        assert len(made) == 1 if isinstance(event, PolicyCommand) else len(made) <= 1
        decisions += made
        after = decider.policy
        assert after is not None
        assert abs(sum(after.weights.values()) - 1) < 1e-9
        for name, weight in after.spec.weights.items():
            assert after.weights[name] >= after.spec.limits.min_share - 1e-9 if weight else after.weights[name] == 0
        if isinstance(event, Score) and before is not None and after != before:
            assert not held
            assert not after.spec.dry_run
            assert all(
                abs(after.weights[n] - before.weights[n]) <= after.spec.limits.step + 1e-9 for n in after.weights
            )
    assert chained(decisions)


def troubles(decider: Decider) -> set[str]:
    """Return the variants with an incident."""
    return {trouble["finding"]["variant"] for trouble in decider.snapshot()["troubles"]}


@settings(max_examples=200)
@given(histories)
def test_only_a_promotion_gives_weight_to_a_variant_in_trouble(history: list[tuple[object, ...]]) -> None:
    decider = Decider(POLICY)
    for place, event in enumerate(events_of(history)):
        before = troubles(decider)
        for made in feed(decider, event, place):
            if made.by != "loop":
                continue
            gain = {name: made.after[name] - made.before[name] for name in made.before}
            gained = {name for name, more in gain.items() if more > 1e-9}
            assert made.variant is not None
            match made.action:
                case "promote":
                    assert gained <= {made.variant}
                case "shift" | "roll back":
                    assert gain[made.variant] < 0
                    assert not gained & (before | troubles(decider))
                case _:
                    assert (made.acted, gained) == (False, set())


@settings(max_examples=200)
@given(histories, st.sampled_from(("a", "b", "c", "d")))
def test_from_any_state_a_bad_variant_is_decreased_and_a_good_one_restored(
    history: list[tuple[object, ...]], bad: str
) -> None:
    events = events_of(history)
    decider, _ = fed(events)
    place = len(events)

    def answers(rounds: int, wrong: str | None, *, until: str = "never") -> Policy:
        nonlocal place
        for variant in ("a", "b", "c", "d") * rounds:
            place += 1
            made = feed(decider, score_of(f"later-{place}", variant, good=variant != wrong, at=float(place)), place)
            if made and made[0].action == until:
                break
        assert decider.policy is not None
        return decider.policy

    policy = decider.policy
    assert policy is not None
    if policy.held:
        feed(decider, operator_command("release", 10_000), place)
    limits, target = policy.spec.limits, normalize(policy.spec.weights, policy.spec.limits)
    if policy.spec.dry_run or target.get(bad, 0.0) == 0 or len([share for share in target.values() if share]) == 1:
        return
    assert answers(100, bad).weights[bad] == pytest.approx(limits.min_share)
    answers(100, None, until="promote")
    assert answers(100, bad).weights[bad] == pytest.approx(limits.min_share)
    assert answers(200, None).weights[bad] == pytest.approx(target[bad])
    assert not troubles(decider)
