"""The text of an exception, for people: never nothing, though many exceptions have no words (`TimeoutError()`).

An exception is always true, so that `error or "…"` says nothing where there are no words.
"""


def error_message(error: BaseException, wordless: str | None = None) -> str:
    """What an exception says.

    Args:
        error: The exception.
        wordless: What is said where it has no words; None = its type.
    """
    return str(error).strip() or wordless or type(error).__name__


def error_with_type(error: BaseException) -> str:
    """The type of an exception, and what it says."""
    name, words = type(error).__name__, str(error).strip()
    return f"{name}: {words}" if words else name
