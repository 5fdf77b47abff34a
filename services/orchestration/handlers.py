"""The orchestration tier's handlers."""

import logging
from collections.abc import Mapping
from typing import Final

from poise.contracts import Message
from poise.messaging import Handler, Mesh
from poise.offload import LimitedExecutor
from poise.runs import workflow
from services.orchestration.answer import AnswerWorkflow
from services.orchestration.asks import Asks
from services.orchestration.breakers import Breakers
from services.orchestration.caching import AnswerCaching
from services.orchestration.own import own_workflows
from services.orchestration.policies import Policies
from services.orchestration.settings import OrchestrationSettings
from services.orchestration.versions import Versions

log = logging.getLogger(__name__)

VERSION: Final = 3
"""Of the answer workflow: raise it when it takes other steps, and a run that an older worker began starts over."""


def handlers(
    settings: OrchestrationSettings,
    mesh: Mesh | None = None,
    *,
    breakers: Breakers | None = None,
    versions: Versions | None = None,
    policies: Policies | None = None,
    executor: LimitedExecutor | None = None,
) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes; answers are kept where it is known what documents say.

    Raises:
        SetupError: A workflow of one's own cannot be had.
    """
    for variant in settings.variants:
        if variant.without_passages > 0:
            log.warning(
                "variant %s: the passages are left out of the prompt of %g %% of the asks (without_passages)",
                variant.name,
                100 * variant.without_passages,
            )
    cache = mesh.cache if mesh is not None else None
    answers = AnswerWorkflow(settings, cache, breakers, versions, policies, executor=executor).answer
    caching = None if mesh is None or versions is None else AnswerCaching(mesh, settings, versions, answers, policies)
    answer = workflow("answer", version=VERSION)(answers if caching is None else caching.answer)
    return Asks([answer, *own_workflows(settings.workflows)]).handlers()
