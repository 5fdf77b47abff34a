"""The orchestration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Ask, Message
from poise.messaging import Handler
from services.orchestration.answer import AnswerWorkflow
from services.orchestration.settings import OrchestrationSettings


def handlers(settings: OrchestrationSettings) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    return {Ask: AnswerWorkflow(settings).answer}
