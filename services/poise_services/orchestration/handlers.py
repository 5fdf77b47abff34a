"""The orchestration tier's handlers."""

from collections.abc import Mapping
from typing import Final

from poise.contracts import Message
from poise.executors.limited import LimitedExecutor
from poise.worker.context import Handler
from poise.worker.runtime import WorkerRuntime
from poise.workflows.workflow import workflow
from poise_services.orchestration.active_policy import Policies
from poise_services.orchestration.answer import AnswerWorkflow, AskHandler
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW, load_workflows

WORKFLOW_STEPS_VERSION: Final = 4
"""Increase it when the built-in workflow's steps or their stored results change: a run that an older worker began then
starts over."""


def handlers(
    settings: OrchestrationSettings,
    mesh: WorkerRuntime | None = None,
    *,
    breakers: Breakers | None = None,
    versions: DocumentVersions | None = None,
    policies: Policies | None = None,
    executor: LimitedExecutor | None = None,
) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type; answers are cached if the documents' versions are known.

    Raises:
        SetupError: A user's workflow cannot be loaded.
    """
    cache = None if mesh is None or versions is None else AnswerCache(mesh, settings, versions, policies)
    redis = None if mesh is None else mesh.redis
    answer = AnswerWorkflow(
        settings,
        cache,
        redis=redis,
        breakers=breakers,
        versions=versions,
        policies=policies,
        executor=executor,
    ).answer
    built_in = workflow(DEFAULT_WORKFLOW, version=WORKFLOW_STEPS_VERSION)(answer)
    return AskHandler([built_in, *load_workflows(settings.workflows)]).handlers()
