"""The prompt: what the model is told.

Small models answer from a few sentences and invent from many. So the prompt holds those sentences of the passages that
bear most on the question, in the order in which they were written, and asks for one sentence in their words.
"""

from poise.contracts import ChatMessage
from poise.scoring import Evidence, extract

TEMPLATE = "{text}\n\n{question} Answer with words from the text above, in one sentence."


def prompt(question: str, evidence: Evidence, sentences: int) -> tuple[ChatMessage, ...]:
    """The chat that has a question answered from the passages."""
    chosen = sorted(extract(question, evidence, sentences), key=lambda line: (line.rank, line.index))
    text = "\n".join(line.sentence for line in chosen)
    return (ChatMessage(role="user", content=TEMPLATE.format(text=text, question=question)),)
