"""The corpus of the demo: Python's language reference, which is part of every Python installation."""

from pydoc_data.topics import topics
from typing import Final

from poise.contracts.document import Document

EXAMPLE_QUESTIONS: Final = (
    "What does the with statement do?",
    "What does the modulo operator yield?",
    "Which exception does del raise if the name is unbound?",
)
"""The small model answers two from its passages; its invented answer to the third does not pass the check."""


def corpus() -> dict[str, Document]:
    """Return the documents by id: `python/<topic>`."""
    return {
        f"python/{topic}": Document(text=text, source=f"Python language reference: {topic}")
        for topic, text in sorted(topics.items())
        if text.strip()
    }
