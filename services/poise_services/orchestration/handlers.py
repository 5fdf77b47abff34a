"""The orchestration tier's handlers."""

from collections.abc import Mapping
from typing import Final

from poise.contracts import Message
from poise.executors.limited import LimitedExecutor
from poise.worker.context import Handler
from poise.worker.runtime import WorkerRuntime
from poise.workflows.workflow import workflow
from poise_services.orchestration.active_policy import PolicyFollower
from poise_services.orchestration.answer import AnswerWorkflow, AskHandler
from poise_services.orchestration.answer_cache import AnswerCache
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.document_versions import DocumentVersions
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.user_workflows import DEFAULT_WORKFLOW, load_workflows

ANSWER_JOURNAL_VERSION: Final = 4
"""Version of the built-in workflow in the journal. Increase it when the steps or their stored results change: a run
that an older worker began then starts over."""


def handlers(
    settings: OrchestrationSettings,
    runtime: WorkerRuntime | None = None,
    *,
    breakers: Breakers | None = None,
    versions: DocumentVersions | None = None,
    policy_follower: PolicyFollower | None = None,
    executor: LimitedExecutor | None = None,
) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type; answers are cached if the documents' versions are known.

    Raises:
        SetupError: A user's workflow cannot be loaded.
    """
    cache = None if runtime is None or versions is None else AnswerCache(runtime, settings, versions, policy_follower)
    redis = None if runtime is None else runtime.redis
    answer = AnswerWorkflow(
        settings,
        cache,
        redis=redis,
        breakers=breakers,
        versions=versions,
        policy_follower=policy_follower,
        executor=executor,
    ).answer
    built_in = workflow(DEFAULT_WORKFLOW, version=ANSWER_JOURNAL_VERSION)(answer)
    return AskHandler([built_in, *load_workflows(settings.workflows)]).handlers()
