"""Log lines: what a stranger wrote stands in one line, and moves no cursor.

Messages quote what comes from outside: keys, headers, a model's words. A line feed in them would begin a line that the
process never wrote, and a terminal obeys escape sequences when the log is read.
"""

import logging
import re
from typing import Any, Final

INDENT: Final = "    "
"""Before each line of a traceback, so that none looks like a line of the log."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, marks that reverse the direction of writing, and what no encoding has."""


def escape_control(text: str) -> str:
    """The text with each character that is no plain one as an escape of Python's (`unicode_escape`)."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and its traceback as indented ones."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line."""
        record.message = escape_control(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback."""
        return _indent(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """A stack that was asked for."""
        return _indent(stack_info)


def _indent(lines: str) -> str:
    return "\n".join(INDENT + escape_control(line) for line in lines.split("\n"))
