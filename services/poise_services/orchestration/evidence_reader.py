"""Evidence reader: reads the passages of one answer, in this process while they are small, else in one with limits."""

from typing import Final

from poise.contracts import ChatMessage, Citation, Completion
from poise.errors import WorkLimitError
from poise.executors.limited import LimitedExecutor
from poise.scoring import Evidence, EvidenceSentence, extract_sentences
from poise_services.orchestration.answer_check import Rejected, check
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import Ladder, Variant

PER_CHARACTER: Final = 20
"""Characters of passages that take as long to read as one character of an answer takes to compare with them."""


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
        """Return the lines most relevant to a question, best first."""
        return await self._executor.run(extract_sentences, question, self._evidence, number, size=self._evidence.size)

    async def build_prompt(self, question: str, variant: Variant) -> tuple[ChatMessage, ...]:
        """Return the chat that asks a variant to answer a question from the passages.

        Raises:
            WorkLimitError: It takes more time or memory than allowed.
        """
        given = question, self._evidence, variant.prompt_sentences, variant.system
        return await self._executor.run(build_prompt, *given, size=self._evidence.size)

    async def check(
        self, completion: Completion, question: str, settings: Ladder, label: str
    ) -> tuple[Citation, ...] | Rejected:
        """Return the citations of an answer that passes its check; one that takes too long to check is rejected."""
        size = self._evidence.size + PER_CHARACTER * len(completion.text)
        try:
            return await self._executor.run(check, completion, self._evidence, question, settings, label, size=size)
        except WorkLimitError as error:
            return Rejected(f"{label}'s answer could not be checked: {error}")
