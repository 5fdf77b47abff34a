"""The evaluation worker."""

import poise.system.sigterm  # noqa: F401 - first: it handles SIGTERM from its import on
from poise.executors.limited import LimitedExecutor
from poise.run_log.lookup import RunLog
from poise.settings import MeshSettings
from poise.worker.process import run
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier
from poise_services.evaluation.embedding_scorer import embedding_scorer
from poise_services.evaluation.handlers import handlers
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings


async def main() -> None:
    """Score finished runs and decide on policies until stopped."""
    mesh_settings, settings = MeshSettings.load(), EvaluationSettings.load()
    async with (
        embedding_scorer(settings) as scorer,
        WorkerRuntime(mesh_settings, tier="evaluation") as runtime,
        policy_worker(runtime, settings),
        LimitedExecutor() as executor,
    ):
        run_log = RunLog(runtime.logs, mesh_settings.clock_skew)
        await runtime.serve(Tier("evaluation", handlers(run_log, scorer, executor)))


if __name__ == "__main__":
    run(main)
