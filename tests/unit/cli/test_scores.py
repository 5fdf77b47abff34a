import io

import pytest
from rich.console import Console

from poise.cli.scores import parse_period
from poise.cli.scores_view import feedback_notes, format_interval, format_mean_share, scores_table
from poise.contracts import Score
from poise.errors import InvalidMessageError
from poise.kafka.record import Record
from poise.run_log.decoding import decodable
from poise.scoring.summary import estimate, summarize_by_variant


def score(run: str, variant: str = "short", rung: str = "primary", **values: float) -> Score:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Score(
        run_id=run,
        workflow="answer",
        tenant="t",
        policy="answer",
        policy_version=1,
        variant=variant,
        probability=0.5,
        rung=rung,
        at=1.0,
        values=named,
    )


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), (" 1.5h ", 5_400), ("7d", 604_800)])
def test_parse_period_returns_seconds(text: str, seconds: float) -> None:
    assert parse_period(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1w", "1h30m"])
def test_parse_period_rejects_an_invalid_period(text: str) -> None:
    with pytest.raises(InvalidMessageError, match="--since"):
        parse_period(text)


def test_scores_table_has_a_row_for_each_variant() -> None:
    scores = [
        score(
            "1",
            groundedness=0.9,
            raw_groundedness=0.9,
            raw_relevance=0.5,
            error=0,
            degenerate=0,
            latency_ms__retrieve=20,
            latency_ms__total=900,
        ),
        score(
            "2",
            rung="extractive",
            groundedness=0.7,
            raw_groundedness=0.1,
            raw_relevance=0.0,
            error=0,
            degenerate=1,
            latency_ms__total=1_500,
        ),
        score(
            "2",
            rung="extractive",
            groundedness=0.7,
            raw_groundedness=0.1,
            raw_relevance=0.0,
            error=0,
            degenerate=1,
            latency_ms__total=1_500,
        ),
        score("3", variant="long", rung="none", error=1),
    ]
    file = io.StringIO()
    Console(file=file, width=120).print(scores_table(summarize_by_variant(scores)))
    lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    assert lines == [
        "variant runs fell back sent grounded written grounded written relevant failed loops p50 p95",
        "short 2 50 % 0.80 ±0.20 0.50 ±0.78 0.25 ±0.49 0 % 50 % 900 ms 1.5 s",
        "primary 1, extractive 1 · retrieve 20 ms",
        "long 1 100 % - - - 100 % - - -",
        "none 1",
    ]


def test_note_shows_the_feedback() -> None:
    said = {
        "feedback_thumb": estimate([1.0, 1.0, 0.0]),
        "feedback_rating": estimate([0.25, 0.75]),
        "feedback_corrected": estimate([1.0]),
    }
    assert feedback_notes(said) == ["2 of 3 thumbs up", "rated 3.0 of 5 by 2", "1 corrected"]
    assert feedback_notes({"groundedness": estimate([1.0])}) == []
    file = io.StringIO()
    given = score("1", feedback_thumb=1.0).model_copy(update={"feedback": "ada"})
    Console(file=file, width=120).print(scores_table(summarize_by_variant([given])))  # the run itself is from before
    assert file.getvalue().splitlines()[1].split()[:3] == ["short", "0", "-"]
    assert file.getvalue().splitlines()[2].strip() == "1 of 1 thumbs up"


def test_single_run_has_no_interval() -> None:
    assert format_interval(estimate([0.5])) == "0.50"
    assert format_interval(None) == format_mean_share(None) == "-"


def test_invalid_scores_are_skipped() -> None:
    records = [
        Record("poise.scores", 0, n, 0.0, None, value) for n, value in enumerate((None, b"{", score("1").encode()))
    ]
    assert [found.run_id for _, found in decodable(Score, records)] == ["1"]
