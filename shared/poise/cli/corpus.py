"""The corpus of the demo: Python's language reference, which every Python brings along."""

from pydoc_data.topics import topics
from typing import Final

from poise.contracts.document import Document

QUESTIONS: Final = (
    "What does the pass statement do?",
    "What happens in the else clause of a try statement?",
    "How are default parameter values evaluated?",
)


def corpus() -> dict[str, Document]:
    """Its documents by id: `python/<topic>`."""
    return {
        f"python/{topic}": Document(text=text, source=f"Python language reference: {topic}")
        for topic, text in sorted(topics.items())
        if text.strip()
    }
