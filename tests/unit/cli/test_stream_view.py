import io

from rich.console import Console

from poise.cli.stream_view import StreamView
from poise.contracts import Delta, Reset


def shown(view: StreamView, *, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=40, height=height)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_view_shows_that_it_waits_for_the_first_token() -> None:
    (line,) = shown(StreamView())
    assert line.endswith("asking …")


def test_view_joins_the_tokens() -> None:
    view = StreamView()
    for text in (" Noth", "ing ", "happens.\n"):
        view.take(Delta(text=text))
    assert shown(view) == ["Nothing happens."]


def test_view_shows_the_reason_of_a_reset_and_only_the_text_after_it() -> None:
    view = StreamView()
    view.take(Delta(text="made up"))
    view.take(Reset(reason="not\ngrounded", rung="extractive"))
    assert shown(view)[0] == "reset: not grounded"
    assert "made up" not in " ".join(shown(view))
    view.take(Delta(text="Word for word."))
    assert shown(view) == ["reset: not grounded", "Word for word."]


def test_view_shows_the_end_of_a_long_text() -> None:
    view = StreamView()
    view.take(Delta(text="\n".join(f"line {number}" for number in range(100))))
    lines = shown(view, height=10)
    assert lines[-1] == "line 99"
    assert len(lines) < 10


def test_view_shows_text_without_markup_or_control_characters() -> None:
    view = StreamView()
    view.take(Reset(reason="[bold]why[/]\x1b[2J"))
    view.take(Delta(text="[red]\x1b[31mx"))
    assert shown(view) == ["reset: [bold]why[/][2J", "[red][31mx"]
