import io
import json

import pytest
from rich.console import Console, RenderableType

from poise.cli.dlq_view import as_json_value, body, hexdump, letter_page, letters_list
from poise.messaging import DeadLetter, Record

HEADERS = (
    ("poise-kind", b"ask/1"),
    ("mine", b"\xff\xfe"),
    ("poise-origin", b"poise.ask.interactive/3/9"),
    ("poise-attempt", b"2"),
    ("poise-dead-topic", b"poise.ask.interactive"),
    ("poise-dead-error", b"TypeError"),
    ("poise-dead-message", b"no [bold]way[/]\n\x1b[31mat all"),
    ("poise-dead-traceback", b"Traceback (most recent call last):\n  here\nTypeError: no way\n"),
    ("poise-dead-worker", b"orchestration-1"),
)


def letter(value: bytes | None = b'{"question":"why"}', *, redriven: str | None = None) -> DeadLetter:
    record = Record("poise.orchestration.dead", 0, 5, 1_000.0, b"key", value, HEADERS)
    return DeadLetter("orchestration", record, redriven)


def shown(what: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(what)
    return file.getvalue()


def test_the_list_has_a_row_and_what_was_said() -> None:
    text = shown(letters_list([letter()], 1_120.0))
    assert [line.rstrip() for line in text.splitlines()] == [
        "id                 age    from                   error",
        "orchestration/0/5  2 min  poise.ask.interactive  TypeError",
        "  no [bold]way[/] [31mat all",
    ]


def test_the_list_says_where_one_was_sent_again() -> None:
    assert "sent again → poise.ask.interactive/1/7" in shown(
        letters_list([letter(redriven="poise.ask.interactive/1/7")], 0.0)
    )


def test_the_page_has_all_of_it() -> None:
    text = shown(letter_page(letter(), 1_120.0))
    for said in (
        "orchestration/0/5  2 min ago",
        "first copy  poise.ask.interactive/3/9",
        "worker      orchestration-1",
        "mine           ff fe",
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
        (b"[" * 100_000, "bytes more"),
        ('{"a": "[red]\\u001b[2Jé"}'.encode(), '"a": "[red]\\u001b[2Jé"'),
    ],
    ids=["null", "empty", "bytes", "too deep", "json"],
)
def test_any_body_can_be_shown(value: bytes | None, said: str) -> None:
    text = shown(body(value))
    assert said in text
    assert "\x1b" not in text


def test_a_hexdump_is_cut() -> None:
    lines = hexdump(bytes(range(40)), most=32).splitlines()
    assert len(lines) == 3
    assert lines[1] == "00000010  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f  |................|"
    assert lines[2] == "… 8 bytes more"


def test_for_machines_bytes_that_are_no_text_are_base64() -> None:
    found = json.loads(json.dumps(as_json_value(letter(b"\xff"), whole=True)))
    assert found["id"] == "orchestration/0/5"
    assert (found["key"], found["value_base64"]) == ("key", "/w==")
    assert found["headers"][:2] == [{"name": "poise-kind", "value": "ask/1"}, {"name": "mine", "value_base64": "//4="}]
    assert "value" not in as_json_value(letter(), whole=False)
