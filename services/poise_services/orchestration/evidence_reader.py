"""The work on the passages of one ask: in this process if they are small, else in a child process with limits."""

from typing import Final

from poise.contracts import ChatMessage, Citation, Completion
from poise.errors import WorkLimitError
from poise.executors.limited import LimitedExecutor
from poise.scoring import Evidence, EvidenceSentence, extract_sentences
from poise_services.orchestration.answer_check import CheckFailed, check
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import LadderSettings, Variant

PASSAGE_CHARS_PER_ANSWER_CHAR: Final = 20
"""Characters of passages whose processing costs as much as checking one character of an answer."""


class EvidenceReader:
    """Builds the prompt, checks answers and extracts sentences, from the passages of one ask.

    Args:
        evidence: The passages.
        executor: Processes large texts in a child process with limits; None = a new one.
    """

    def __init__(self, evidence: Evidence, executor: LimitedExecutor | None = None) -> None:
        self._evidence = evidence
        self._executor = executor or LimitedExecutor()

    async def extract(self, question: str, number: int) -> list[EvidenceSentence]:
        """Return the sentences most relevant to a question, best first."""
        return await self._executor.run(extract_sentences, question, self._evidence, number, size=self._evidence.size)

    async def build_prompt(self, question: str, variant: Variant) -> tuple[ChatMessage, ...]:
        """Return the chat that asks a variant to answer a question from the passages.

        Raises:
            WorkLimitError: It takes more time or memory than allowed.
        """
        return await self._executor.run(
            build_prompt,
            question,
            self._evidence,
            variant.prompt_sentences,
            variant.system,
            size=self._evidence.size,
        )

    async def check(
        self, completion: Completion, question: str, settings: LadderSettings, label: str
    ) -> tuple[Citation, ...] | CheckFailed:
        """Return the citations of an answer that passes its check; one that takes too long to check is rejected."""
        size = self._evidence.size + PASSAGE_CHARS_PER_ANSWER_CHAR * len(completion.text)
        try:
            return await self._executor.run(check, completion, self._evidence, question, settings, label, size=size)
        except WorkLimitError as error:
            return CheckFailed(f"{label}'s answer could not be checked: {error}")
