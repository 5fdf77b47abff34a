"""The orchestration tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Message
from poise.messaging import Handler, Mesh
from poise.runs import workflow
from services.orchestration.answer import AnswerWorkflow
from services.orchestration.asks import Asks
from services.orchestration.breakers import Breakers
from services.orchestration.caching import AnswerCaching
from services.orchestration.own import own_workflows
from services.orchestration.settings import OrchestrationSettings
from services.orchestration.versions import Versions


def handlers(
    settings: OrchestrationSettings,
    mesh: Mesh | None = None,
    *,
    breakers: Breakers | None = None,
    versions: Versions | None = None,
) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes; answers are kept where it is known what documents say.

    Raises:
        SetupError: A workflow of one's own cannot be had.
    """
    cache = mesh.cache if mesh is not None else None
    answers = AnswerWorkflow(settings, cache, breakers, versions).answer
    caching = None if mesh is None or versions is None else AnswerCaching(mesh, settings, versions, answers)
    answer = workflow("answer")(answers if caching is None else caching.answer)
    return Asks([answer, *own_workflows(settings.workflows)]).handlers()
