"""Progress bars."""

from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclass(frozen=True, slots=True)
class ProgressBar:
    """One progress bar."""

    progress: Progress
    task: TaskID

    def advance(self, by: int = 1) -> None:
        """Advance the bar."""
        self.progress.advance(self.task, by)


class ProgressBars:
    """Progress bars on a console; `with Bars(console) as bars: bar = bars.add("publish", 79)`.

    Nothing is drawn if the console is not a terminal.
    """

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the bars stay on the screen."""
        self._progress.stop()

    def add(self, what: str, total: int) -> ProgressBar:
        """Add a bar."""
        return ProgressBar(self._progress, self._progress.add_task(what, total=total))
