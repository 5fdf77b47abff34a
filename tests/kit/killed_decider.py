"""A policy worker that kills itself: `python killed_decider.py PLACE NUMBER`.

POISE_BROKER names the broker. Places: `sent` (transaction NUMBER is written, but not committed), `committed` (it is
committed, but nobody was notified).
"""

import asyncio
import sys

from aiokafka import AIOKafkaProducer
from killed_redrive import killing

from poise.kafka.transactions import Transaction
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.evaluation.policy_worker import policy_worker
from poise_services.evaluation.settings import EvaluationSettings


async def main(place: str, number: int) -> None:
    """Run a policy worker until it kills itself."""
    if place == "committed":
        method = killing(AIOKafkaProducer.commit_transaction, after=number)
        AIOKafkaProducer.commit_transaction = method  # type: ignore[method-assign,assignment]
    else:
        method = killing(Transaction.send, after=number)
        Transaction.send = method  # type: ignore[method-assign,assignment]
    async with WorkerRuntime(MeshSettings(), tier="evaluation") as mesh, policy_worker(mesh, EvaluationSettings()):
        await mesh.wait_for_stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
