"""The orchestration tier's handlers."""

import logging
from collections.abc import Mapping
from typing import Final

from poise.contracts import Message
from poise.executors.limited import LimitedExecutor
from poise.worker.context import Handler
from poise.worker.runtime import WorkerRuntime
from poise.workflows.workflow import workflow
from poise_services.orchestration.active_policy import Policies
from poise_services.orchestration.answer import AnswerWorkflow
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.handler import AskHandler
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.user_workflows import load_workflows

log = logging.getLogger(__name__)

WORKFLOW_STEPS_VERSION: Final = 3
"""Of the answer workflow: raise it when it takes other steps, and a run that an older worker began starts over."""


def handlers(
    settings: OrchestrationSettings,
    mesh: WorkerRuntime | None = None,
    *,
    breakers: Breakers | None = None,
    versions: DocumentVersions | None = None,
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
    cache = mesh.redis if mesh is not None else None
    answers = AnswerWorkflow(settings, cache, breakers, versions, policies, executor=executor).answer
    caching = None if mesh is None or versions is None else AnswerCache(mesh, settings, versions, answers, policies)
    answer = workflow("answer", version=WORKFLOW_STEPS_VERSION)(answers if caching is None else caching.answer)
    return AskHandler([answer, *load_workflows(settings.workflows)]).handlers()
