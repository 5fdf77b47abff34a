"""The corpus of the demo: Python's language reference, which every Python brings along."""

from pydoc_data.topics import topics
from typing import Final

from poise.contracts.document import Document

QUESTIONS: Final = (
    "How are default parameter values evaluated?",
    "What does the with statement do?",
    "What does the nonlocal statement do?",
)
"""Two that the small model answers from its passages, and one where its words do not pass the check."""


def corpus() -> dict[str, Document]:
    """Its documents by id: `python/<topic>`."""
    return {
        f"python/{topic}": Document(text=text, source=f"Python language reference: {topic}")
        for topic, text in sorted(topics.items())
        if text.strip()
    }
