"""The orchestration tier's handlers."""

from collections.abc import Mapping

from poise.cache import Cache
from poise.contracts import Message
from poise.messaging import Handler
from poise.runs import workflow
from services.orchestration.answer import AnswerWorkflow
from services.orchestration.asks import Asks
from services.orchestration.breakers import Breakers
from services.orchestration.settings import OrchestrationSettings


def handlers(
    settings: OrchestrationSettings, cache: Cache | None = None, breakers: Breakers | None = None
) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    return Asks([workflow("answer")(AnswerWorkflow(settings, cache, breakers).answer)]).handlers()
