"""An answer on a screen while it is written: its words, dim for they do not count yet, and why some were taken back."""

from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from poise.cli.answer_view import RUNG_STYLES
from poise.cli.text import clean
from poise.contracts.stream import Delta, Reset

MARGIN: Final = (0, 2)


class StreamView:
    """What has come so far, as a terminal shows it."""

    def __init__(self) -> None:
        self._text = ""
        self._reset: Reset | None = None
        self._waiting = Spinner("dots", Text("asking …", style="dim"))

    def take(self, item: Delta | Reset) -> None:
        """Show what came, too; or, after a reset, only what comes from now on, and why."""
        if isinstance(item, Reset):
            self._reset, self._text = item, ""
            self._waiting.update(text=Text("another way …", style="dim"))
        else:
            self._text += item.text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Laid out as the answer will be, so that its words stay where they are when it is there."""
        yield from console.render(Group(Text(), *self._lines(console, options)), options)

    def _lines(self, console: Console, options: ConsoleOptions) -> list[Padding]:
        lines = []
        if self._reset is not None:
            style = RUNG_STYLES.get(self._reset.rung or "", "yellow")
            said = " ".join(clean(self._reset.reason).split())
            lines.append(Padding(Text.assemble(("taken back: ", style), (said, "dim")), MARGIN))
        if text := clean(self._text).strip():
            words = Text(text, style="dim")
            # The last lines of what does not fit: the end is where something happens.
            room = max(1, options.size.height - 3 - len(lines))
            shown = words.wrap(console, max(1, options.max_width - 2 * MARGIN[1]))[-room:]
            lines.extend(Padding(line, MARGIN) for line in shown)
        else:
            lines.append(Padding(self._waiting, MARGIN))
        return lines
