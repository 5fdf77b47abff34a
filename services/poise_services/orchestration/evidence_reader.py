"""The passages of one answer, and what is read of them: here while they are small, else in a process with limits."""

from typing import Final

from poise.contracts import ChatMessage, Citation, Completion
from poise.errors import WorkLimitError
from poise.executors.limited import LimitedExecutor
from poise.scoring import Evidence, Line, extract
from poise_services.orchestration.answer_check import Rejected, check
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import Ladder, Variant

PER_CHARACTER: Final = 20
"""Characters of passages that are read as quickly as one of an answer is compared with them."""


class EvidenceReader:
    """Reads the passages.

    Args:
        evidence: The passages.
        executor: Has a process for large ones; None = its own.
    """

    def __init__(self, evidence: Evidence, executor: LimitedExecutor | None = None) -> None:
        self._evidence = evidence
        self._executor = executor or LimitedExecutor()

    async def extract(self, question: str, number: int) -> list[Line]:
        """The lines that bear most on a question, best first."""
        return await self._executor.run(extract, question, self._evidence, number, size=self._evidence.size)

    async def prompt(self, question: str, variant: Variant) -> tuple[ChatMessage, ...]:
        """The chat that has a variant answer a question from them."""
        given = question, self._evidence, variant.sentences, variant.system
        return await self._executor.run(build_prompt, *given, size=self._evidence.size)

    async def check(
        self, completion: Completion, question: str, settings: Ladder, who: str
    ) -> tuple[Citation, ...] | Rejected:
        """The places that an answer rests on, if it may be sent: one that takes too long to check may not."""
        size = self._evidence.size + PER_CHARACTER * len(completion.text)
        try:
            return await self._executor.run(check, completion, self._evidence, question, settings, who, size=size)
        except WorkLimitError as error:
            return Rejected(f"{who}'s answer could not be checked: {error}")
