from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts.span import SpanRecord
from poise.run_log.timeline import SpanNode, clock_skews, span_tree, time_range, time_shares
from poise.telemetry import semconv


def make(
    id_: str,
    parent: str | None = None,
    *,
    at: float = 0.0,
    ms: float = 10.0,
    tier: str = "retrieval",
    queued: float | None = None,
    **rest: Any,
) -> SpanRecord:
    attributes = {} if queued is None else {semconv.QUEUE_MS: queued}
    fields = {"name": id_, "instance": f"{tier}-1", "host": "a", "attributes": attributes, **rest}
    return SpanRecord(
        trace_id="t", span_id=id_, parent_id=parent, service=f"poise-{tier}", start=1_000 + at / 1000, ms=ms, **fields
    )


def shape(nodes: list[SpanNode]) -> list[Any]:
    return [(node.id, shape(node.children)) if node.children else node.id for node in nodes]


# -- the tree


def test_span_tree_orders_spans_by_parent_and_time_in_any_input_order() -> None:
    spans = [make("late", "root", at=5), make("deep", "early", at=2), make("root"), make("early", "root", at=1)]

    assert shape(span_tree(spans)) == [("root", [("early", ["deep"]), "late"])]


def test_roots_are_sorted_by_time() -> None:
    assert shape(span_tree([make("second", at=5), make("first", at=1)])) == ["first", "second"]


def test_orphans_of_one_missing_parent_share_a_placeholder_node() -> None:
    roots = span_tree(
        [make("a", "lost", at=3, ms=4, queued=2), make("b", "lost", at=9, ms=4), make("c", "gone", at=20)]
    )

    assert shape(roots) == [("lost", ["a", "b"]), ("gone", ["c"])]
    assert roots[0].span is None
    assert (roots[0].start, roots[0].end) == pytest.approx((1_000.001, 1_000.013))
    assert roots[0].tier == ""


def test_entry_span_does_not_require_the_callers_parent() -> None:
    by_http = make("ask", "from-a-browser", tier="gateway", role="server")
    by_kafka = make("process", "from-a-client", at=1, name="process poise.ask.interactive", role="consumer")

    assert shape(span_tree([by_http, by_kafka])) == ["ask", "process"]


def test_entry_span_is_a_child_of_its_reported_parent() -> None:
    assert shape(span_tree([make("cli"), make("ask", "cli", at=1, role="server")])) == [("cli", ["ask"])]


def test_span_reported_twice_counts_once() -> None:
    assert shape(span_tree([make("root"), make("a", "root"), make("a", "root"), make("root")])) == [("root", ["a"])]


@pytest.mark.parametrize("ids", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_cycle_of_parents_is_cut_at_its_earliest_span(ids: list[str]) -> None:
    ring = [make(id_, ids[number - 1], at=number) for number, id_ in enumerate(ids)]

    nodes = [node.id for root in span_tree([*ring, make("leaf", "a", at=9)]) for node in root.walk()]
    assert sorted(nodes) == sorted([*ids, "leaf"])
    assert nodes[0] == "a"


def test_no_spans_give_an_empty_tree() -> None:
    assert span_tree([]) == []
    assert time_range([]) == (0.0, 0.0)
    assert time_shares([]).total == 0


ids = st.sampled_from("abcdefg")
records = st.builds(
    make,
    ids,
    st.none() | ids,
    at=st.integers(0, 50),
    ms=st.integers(0, 50),
    tier=st.sampled_from(["gateway", "retrieval", "inference"]),
    queued=st.none() | st.integers(0, 9),
    role=st.sampled_from(["internal", "client", "server", "consumer"]),
)


@given(st.lists(records, max_size=12))
def test_any_spans_occur_once_in_the_tree(spans: list[SpanRecord]) -> None:
    nodes = [node for root in span_tree(spans) for node in root.walk()]

    assert sorted(node.id for node in nodes if node.span) == sorted({span.span_id for span in spans})
    assert len({node.id for node in nodes}) == len(nodes)


@given(st.lists(records, min_size=1, max_size=12))
def test_time_shares_never_exceed_the_total(spans: list[SpanRecord]) -> None:
    split = time_shares(span_tree(spans))

    parts = [*split.tiers.values(), *split.waiting.values(), split.transit]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= split.total + 1e-6


# -- where the time went


def run() -> list[SpanRecord]:
    return [
        make("ask", ms=100, tier="gateway", role="server"),
        make("call", "ask", at=5, ms=90, tier="gateway", role="client", name="call ask"),
        make("process", "call", at=20, ms=70, tier="orchestration", role="consumer", queued=10),
        make("chat", "process", at=30, ms=50, tier="inference", role="client", name="chat small"),
        make("score", "process", at=120, ms=30, tier="evaluation"),
    ]


def test_time_is_attributed_to_the_working_tier() -> None:
    split = time_shares(span_tree(run()))

    assert split.total == pytest.approx(0.1)
    assert list(split.tiers) == ["inference", "orchestration", "gateway"]
    assert split.tiers == pytest.approx({"inference": 0.05, "orchestration": 0.02, "gateway": 0.01})
    assert split.waiting == pytest.approx({"orchestration": 0.01})
    assert split.transit == pytest.approx(0.01)  # from 5 to 10 and from 90 to 95


def test_concurrent_spans_share_their_time() -> None:
    spans = [
        make("root", ms=20, tier="orchestration"),
        make("a", "root", ms=20, tier="retrieval"),
        make("b", "root", at=10, ms=10, tier="inference"),
    ]

    assert time_shares(span_tree(spans)).tiers == pytest.approx({"retrieval": 0.015, "inference": 0.005})


def test_run_without_its_first_span_lasts_as_long_as_its_known_spans() -> None:
    roots = span_tree([make("a", "lost", ms=10), make("b", at=30, ms=10)])

    assert time_range(roots) == pytest.approx((1_000, 1_000.04))
    assert time_shares(roots).tiers == pytest.approx({"retrieval": 0.02})


def test_wait_before_the_first_span_counts() -> None:
    roots = span_tree([make("process", ms=10, name="process poise.ask.batch", role="consumer", queued=30)])

    assert time_range(roots) == pytest.approx((999.97, 1_000.01))
    assert time_shares(roots).waiting == pytest.approx({"retrieval": 0.03})


# -- clocks


def test_span_that_starts_before_its_cause_proves_clock_skew() -> None:
    spans = [make("root", at=50), make("a", "root", at=20, host="b"), make("c", "root", at=40, host="b")]

    (skew,) = clock_skews(span_tree(spans))
    assert (skew.host, skew.other) == ("b", "a")
    assert skew.seconds == pytest.approx(0.03)


def test_spans_of_one_host_or_in_order_prove_no_clock_skew() -> None:
    assert clock_skews(span_tree([make("root", at=50), make("a", "root", at=20)])) == []
    assert clock_skews(span_tree([make("root"), make("a", "root", at=20, host="b")])) == []
