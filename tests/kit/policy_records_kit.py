"""Policies and their records, for tests of readers of `poise.policy`."""

from poise.contracts import Policy, PolicySpec
from poise.contracts.topics import POLICY
from poise.kafka.record import Record
from poise.worker.runtime import WorkerRuntime


def policy_of(version: int, name: str = "answer", **weights: float) -> Policy:
    """Return a policy with those weights, as the decider writes it."""
    spec = PolicySpec(name=name, weights=weights)
    return Policy(
        name=name, version=version, weights=weights, spec=spec, decision=f"{name}-{version}", at=1.0, by="loop"
    )


def policy_record(policy: Policy, offset: int = 0) -> Record:
    """Return the record of a policy."""
    return Record(POLICY.name, 0, offset, 1.0, policy.name.encode(), policy.encode())


async def put(mesh: WorkerRuntime, policy: Policy) -> None:
    """Publish a policy, which puts it in force."""
    await mesh.producer.publish(POLICY, policy, key=policy.name)
