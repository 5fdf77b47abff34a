"""Log lines: text from clients is escaped, so that it cannot forge lines or control a terminal.

Log messages quote keys, headers and texts of models. A line feed in them would begin a line that the process did not
write, and a terminal that shows the log interprets escape sequences.
"""

import logging
import re
from typing import Any, Final

INDENT: Final = "    "
"""The prefix of each line of a traceback, so that none looks like a log line."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, bidirectional marks and surrogates."""


def escape_control(text: str) -> str:
    """Return a text with control characters escaped as in Python (`unicode_escape`)."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and its traceback as indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line of a record."""
        record.message = escape_control(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the traceback, indented."""
        return _indent(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """Return the stack, indented."""
        return _indent(stack_info)


def _indent(lines: str) -> str:
    return "\n".join(INDENT + escape_control(line) for line in lines.split("\n"))
