import io
import json

import pytest
from rich.console import Console, RenderableType

from poise.cli.dlq_view import dead_letter_page, dead_letters_table, hexdump, outcome_line, render_body, totals_line
from poise.dead_letters.json_view import DeadLetterDetail, DeadLetterSummary
from poise.dead_letters.model import DeadLetter
from poise.dead_letters.redrive_plan import RedriveOutcome
from poise.kafka.record import Position, Record

HEADERS = (
    ("poise-kind", b"ask/1"),
    ("mine", b"\xff\xfe"),
    ("poise-origin", b"poise.ask.interactive/3/9"),
    ("poise-attempt", b"2"),
    ("poise-dead-topic", b"poise.ask.interactive"),
    ("poise-dead-position", b"poise.ask.interactive/3/12"),
    ("poise-dead-error", b"TypeError"),
    ("poise-dead-message", b"no [bold]way[/]\n\x1b[31mat all"),
    ("poise-dead-traceback", b"Traceback (most recent call last):\n  here\nTypeError: no way\n"),
    ("poise-dead-worker", b"orchestration-1"),
)


def letter(
    value: bytes | None = b'{"question":"why"}', *, redriven: str | None = None, redrives: int = 0
) -> DeadLetter:
    headers = (*HEADERS, ("poise-redrives", str(redrives).encode()))
    record = Record("poise.orchestration.dead", 0, 5, 1_000.0, b"key", value, headers)
    return DeadLetter("orchestration", record, redriven, (Position("poise.orchestration.dead", 0, 8),))


def shown(what: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(what)
    return file.getvalue()


def lines(what: RenderableType) -> list[str]:
    return [line.rstrip() for line in shown(what).splitlines()]


def test_dead_letters_table_shows_a_row_and_the_error_message() -> None:
    assert lines(dead_letters_table([letter()], 1_120.0)) == [
        "id                 age    error",
        "orchestration/0/5  2 min  TypeError",
        "  poise.ask.interactive  no [bold]way[/] [31mat all",
    ]


@pytest.mark.parametrize(
    ("redrives", "redriven", "standing", "note"),
    [
        (0, None, "", "poise.ask.interactive  no [bold]way[/] [31mat all"),
        (1, None, "sent again 1×", "poise.ask.interactive  no [bold]way[/] [31mat all"),
        (3, None, "quarantined: failed 4 times", "poise.ask.interactive  no [bold]way[/] [31mat all"),
        (3, "poise.ask.interactive/1/7", "sent again", "→ poise.ask.interactive/1/7"),
    ],
)
def test_dead_letters_table_shows_the_state_of_each_entry(
    redrives: int, redriven: str | None, standing: str, note: str
) -> None:
    _, row, below = lines(dead_letters_table([letter(redrives=redrives, redriven=redriven)], 1_120.0))
    assert row == f"orchestration/0/5  2 min  TypeError  {standing}".rstrip()
    assert below == f"  {note}"


def test_totals_line_counts_entries_by_state() -> None:
    letters = [letter(), letter(redrives=3), letter(redriven="t/0/1"), letter(redriven="t/0/2")]
    assert totals_line(letters, hidden=2).plain == (
        "2 dead letters, 1 of them quarantined, 2 sent again (--all shows them)"
    )
    assert totals_line(letters, hidden=0).plain == "2 dead letters, 1 of them quarantined, 2 sent again"
    assert totals_line([], hidden=0).plain == "0 dead letters"


def test_outcome_line_describes_each_redrive_outcome() -> None:
    where = Position("poise.ask.interactive", 1, 7)
    said = [
        outcome_line(outcome).plain
        for outcome in (
            RedriveOutcome(letter()),
            RedriveOutcome(letter(), sent=where),
            RedriveOutcome(letter(), refused="it \x1b[2Jis old"),
        )
    ]
    assert said == [
        "orchestration/0/5 (TypeError) → poise.ask.interactive",
        "orchestration/0/5 (TypeError) → poise.ask.interactive/1/7",
        "not sent it [2Jis old",
    ]


def test_dead_letter_page_shows_all_fields() -> None:
    text = shown(dead_letter_page(letter(), 1_120.0))
    for said in (
        "orchestration/0/5  2 min ago",
        "original    poise.ask.interactive/3/9",
        "failed at   poise.ask.interactive/3/12",
        "duplicates  orchestration/0/8",
        "worker      orchestration-1",
        "mine            ff fe",
        '"question": "why"',
        "TypeError: no way",
    ):
        assert said in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null (a deletion)"),
        (b"", "empty"),
        (b"\x00\x01ab", "00000000  00 01 61 62"),
        (b"[" * 100_000, "more bytes"),
        ('{"a": "[red]\\u001b[2Jé"}'.encode(), '"a": "[red]\\u001b[2Jé"'),
    ],
    ids=["null", "empty", "bytes", "too deep", "json"],
)
def test_render_body_accepts_any_bytes(value: bytes | None, said: str) -> None:
    text = shown(render_body(value))
    assert said in text
    assert "\x1b" not in text


def test_hexdump_is_cut_at_its_limit() -> None:
    lines = hexdump(bytes(range(40)), most=32).splitlines()
    assert len(lines) == 3
    assert lines[1] == "00000010  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f  |................|"
    assert lines[2] == "… 8 more bytes"


def test_json_view_encodes_binary_bytes_as_base64() -> None:
    view = DeadLetterDetail.of(letter(b"\xff", redrives=3))
    found = json.loads(json.dumps(view.model_dump(mode="json", exclude_unset=True)))
    assert (found["id"], found["state"], found["redrives"]) == ("orchestration/0/5", "quarantined", 3)
    assert (found["key"], found["value_base64"]) == ("key", "/w==")
    assert found["headers"][:2] == [{"name": "poise-kind", "value": "ask/1"}, {"name": "mine", "value_base64": "//4="}]
    assert "value" not in found
    assert "value" not in DeadLetterSummary.of(letter()).model_dump(mode="json")
