"""The prompt: the chat that asks a model to answer from passages.

Small models answer from a few sentences and invent from many. So the prompt has the passages' sentences most relevant
to the question, in their original order, and asks for one sentence in their words.

Measured with the built-in model (74 questions, judged by a person): 26 right answers with two sentences and an empty
system message, 24 with two and no system message, 15 with three and no system message. Whole passages, headings,
examples, the words "quote" or "copy", and a non-empty system message were all worse.
"""

from poise.contracts import ChatMessage
from poise.scoring import Evidence, extract_sentences

TEMPLATE = "{text}\n\n{question} Answer with words from the text above, in one sentence."


def build_prompt(question: str, evidence: Evidence, max_sentences: int, system: str | None) -> tuple[ChatMessage, ...]:
    """Return the chat that asks for an answer from the passages; `system` None = no system message."""
    chosen = sorted(
        extract_sentences(question, evidence, max_sentences), key=lambda sentence: (sentence.rank, sentence.index)
    )
    text = "\n".join(sentence.text for sentence in chosen)
    return _chat(TEMPLATE.format(text=text, question=question), system)


def _chat(content: str, system: str | None) -> tuple[ChatMessage, ...]:
    user_message = ChatMessage(role="user", content=content)
    return (user_message,) if system is None else (ChatMessage(role="system", content=system), user_message)
