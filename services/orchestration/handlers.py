"""The orchestration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Message
from poise.messaging import Handler, Mesh
from poise.runs import workflow
from services.orchestration.answer import AnswerWorkflow
from services.orchestration.asks import Asks
from services.orchestration.breakers import Breakers
from services.orchestration.settings import OrchestrationSettings


def handlers(
    settings: OrchestrationSettings, mesh: Mesh | None = None, *, breakers: Breakers | None = None
) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    cache = mesh.cache if mesh is not None else None
    return Asks([workflow("answer")(AnswerWorkflow(settings, cache, breakers).answer)]).handlers()
