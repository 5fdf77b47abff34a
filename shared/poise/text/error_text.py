"""The text of an exception, for people: never empty, although many exceptions have no message (`TimeoutError()`).

An exception is always true, so `error or "…"` does not replace an empty message.
"""


def error_message(error: BaseException, default: str | None = None) -> str:
    """Return the message of an exception.

    Args:
        error: The exception.
        default: Returned if it has no message; None = its type.
    """
    return str(error).strip() or default or type(error).__name__


def error_with_type(error: BaseException) -> str:
    """Return the type and the message of an exception."""
    name, message = type(error).__name__, str(error).strip()
    return f"{name}: {message}" if message else name
