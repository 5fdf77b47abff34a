import io
from typing import Any

from rich.console import Console

from poise.cli.answer_view import (
    MAX_QUOTE_CHARS,
    format_quote,
    provenance_line,
    render_answer,
    timings_line,
    warning_lines,
)
from poise.contracts import Answer, Citation

RUN = "0199a1b2-0000-7000-8000-000000000001"


def answer(**fields: Any) -> Answer:
    given = {"run_id": RUN, "text": "Nothing happens.", "rung": "primary", "variant": "short"}
    return Answer.model_validate(given | fields)


def shown(found: Answer) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_answer(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_answer_panel_shows_sources_and_the_trace_command() -> None:
    citations = tuple(Citation(source=f"Book {n}", passage=f"b#{n}", quote=f"words {n}") for n in (1, 2))
    text = shown(answer(citations=citations, timings={"retrieve": 21.0, "generate": 1_180.0, "total": 1_240.0}))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines == [
        "Nothing happens.",
        "1 Book 1",
        "“words 1”",
        "2 Book 2",
        "“words 2”",
        "primary · short · 1.24 s = retrieve 21 ms + generate 1.18 s",
        f"where its time went: poise trace {RUN}",
    ]


def test_provenance_line_shows_the_reason_for_a_lower_rung() -> None:
    found = answer(rung="extractive", reason="the model's answer was not grounded", variant=None)
    assert provenance_line(found).plain == "extractive (the model's answer was not grounded)"


def test_provenance_line_shows_the_age_of_a_cached_answer() -> None:
    found = answer(rung="stale", reason="the model failed", cached=True, age=750.0)
    assert provenance_line(found).plain == "stale (the model failed) · short · from the cache, 12 min old"
    assert provenance_line(answer(cached=True, age=0.2)).plain == "primary · short · just worked out for another ask"


def test_each_degradation_is_shown_on_its_own_line() -> None:
    found = answer(retrieval="cached", degraded=["retrieval failed: away;\npassages found 3 h ago stand in", "[b]x"])
    assert [line.plain for line in warning_lines(found)] == [
        "! retrieval failed: away; passages found 3 h ago stand in",
        "! [b]x",
    ]
    assert "! retrieval failed" in shown(found)
    assert [line.plain for line in warning_lines(answer(retrieval="lexical"))] == [
        "! passages were found by sparse search only"
    ]
    assert not list(warning_lines(answer(retrieval="hybrid")))


def test_answer_text_is_shown_without_markup_or_control_characters() -> None:
    cite = Citation(source="[bold]src[/]", passage="p#0", quote="[red]\x1b[2Jquote")
    text = shown(answer(text="[link=file:///]x[/link]\x1b[31m", citations=(cite,), reason="[/]"))
    assert "[link=file:///]x[/link][31m" in text
    assert "[bold]src[/]" in text
    assert "[red][2Jquote" in text
    assert "\x1b" not in text


def test_timings_line_shows_the_time_outside_of_steps() -> None:
    assert timings_line({"retrieve": 20.0, "total": 100.0}) == "100 ms = retrieve 20 ms + the rest 80 ms"
    assert timings_line({"total": 100.0}) == "100 ms"
    assert timings_line({"a": 1.0, "b": 2.0}) == "a 1.0 ms + b 2.0 ms"


def test_timings_line_uses_the_measured_wait_as_the_total() -> None:
    text = provenance_line(answer(timings={"generate": 1_000.0, "total": 7_000.0}), waited=53.0).plain
    assert "53 s = generate 1 s + the rest 52 s" in text
    assert "7 s" not in text
    assert "53 s" in provenance_line(answer(timings={}), waited=53.0).plain


def test_long_quote_is_cut_at_a_word() -> None:
    said = format_quote("word " * 200)
    assert len(said) <= MAX_QUOTE_CHARS + 4
    assert said.startswith("“word word")
    assert said.endswith("word …”")
    assert format_quote(" \n ") == ""
