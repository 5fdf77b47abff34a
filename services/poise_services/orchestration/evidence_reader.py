"""Evidence reader: reads the passages of one answer, in this process while they are small, else in one with limits."""

from typing import Final

from poise.contracts import ChatMessage, Citation, Completion
from poise.errors import WorkLimitError
from poise.executors.limited import LimitedExecutor
from poise.scoring import Evidence, EvidenceSentence, extract_sentences
from poise_services.orchestration.answer_check import CheckFailed, check
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import LadderSettings, Variant

PASSAGE_CHARS_PER_ANSWER_CHAR: Final = 20
"""To compare one character of an answer with the passages takes as long as to read this many characters of them."""


class EvidenceReader:
    """Reads the passages.

    Args:
        evidence: The passages.
        executor: Runs large texts in a process with limits; None = a new one.
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
        given = question, self._evidence, variant.prompt_sentences, variant.system
        return await self._executor.run(build_prompt, *given, size=self._evidence.size)

    async def check(
        self, completion: Completion, question: str, settings: LadderSettings, label: str
    ) -> tuple[Citation, ...] | CheckFailed:
        """Return the citations of an answer that passes its check; one that takes too long to check is rejected."""
        size = self._evidence.size + PASSAGE_CHARS_PER_ANSWER_CHAR * len(completion.text)
        try:
            return await self._executor.run(check, completion, self._evidence, question, settings, label, size=size)
        except WorkLimitError as error:
            return CheckFailed(f"{label}'s answer could not be checked: {error}")
