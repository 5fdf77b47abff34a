"""Policies: which weights are in force, as the log `poise.policy` has it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from poise.contracts import Draw, Policy
from poise.contracts.topics import POLICY
from poise.errors import SetupError
from poise.kafka.log_reader import LogReader
from poise.kafka.record import Record
from poise.policy.draw import draw
from poise.worker.runtime import WorkerRuntime
from poise_services.orchestration.settings import OrchestrationSettings, Variant

log = logging.getLogger(__name__)

SETTINGS_VERSION: Final = 0
"""The version of what holds until a policy is set, the settings' own weights. Those of the log begin with 1."""
START_TIMEOUT: Final = 5.0
"""Seconds that a worker waits, before it takes its first ask, until the log was read to its end."""


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """What is in force over a worker's variants."""

    settings: OrchestrationSettings
    """The worker's, its variants with the weights that are in force."""
    version: int = SETTINGS_VERSION
    """Of the policy that they are from."""
    secret: bytes = field(kw_only=True, repr=False)
    """What draws are made with."""

    def draw(self, run: str) -> Draw:
        """The variant that is asked first for a run."""
        settings = self.settings
        choice = draw(settings.variants, run=run, policy=settings.policy, version=self.version, secret=self.secret)
        return Draw(
            variant=choice.variant.name,
            probability=choice.probability,
            policy=settings.policy,
            policy_version=self.version,
        )

    def resolve(self, drawn: Draw, run: str) -> tuple[Draw, Variant]:
        """What was drawn for a run, and the variant; drawn anew where the settings do not have that one any more."""
        named = {one.name: one for one in self.settings.variants}
        if drawn.variant not in named:  # the run was begun by a worker that was configured otherwise
            drawn = self.draw(run)
        return drawn, named[drawn.variant]


def apply_weights(settings: OrchestrationSettings, policy: Policy, secret: bytes) -> ActivePolicy:
    """What a policy says of a worker's variants.

    One that the policy does not name has no weight: it is not drawn, and stands by. What the policy gives to one that
    the worker does not have goes to the others in proportion, for weights are shares of their sum. Where it has none of
    those that the policy would have drawn, its own weights hold, as if nothing had been set.
    """
    weights = policy.weights
    variants = tuple(one.model_copy(update={"weight": weights.get(one.name, 0.0)}) for one in settings.variants)
    if not any(one.weight > 0 for one in variants):
        return ActivePolicy(settings, secret=secret)
    return ActivePolicy(settings.model_copy(update={"variants": variants}), policy.version, secret=secret)


class Policies:
    """The policy in force: the settings' weights until the log has another one, then the highest version it has.

    Args:
        settings: The worker's.
        secret: What draws are made with; None = one of this process's own.
    """

    def __init__(self, settings: OrchestrationSettings, secret: bytes | None = None) -> None:
        self.current = ActivePolicy(settings, secret=secret or token_bytes(32))
        """What is in force now; whoever needs more than one thing of it takes it once."""
        self.known = False
        """Whether the log was read to its end."""
        self._settings = settings
        self._version = SETTINGS_VERSION

    def apply(self, record: Record) -> None:
        """Apply a record.

        Raises:
            ValidationError: It is no policy; what is in force stays so.
        """
        if record.key != self._settings.policy.encode():
            return
        policy = Policy.parse(record.value or b"")
        if policy.version > self._version:
            self._set(policy)

    async def reset(self) -> None:
        """The log was made anew, and its versions begin with 1 again; what is in force stays so until it was read."""
        self._version, self.known = SETTINGS_VERSION, False

    def settle(self) -> None:
        """The log was read to its end: where it has no policy, the settings' weights are in force."""
        self.known = True
        if self._version == SETTINGS_VERSION and self.current.version != SETTINGS_VERSION:
            self.current = ActivePolicy(self._settings, secret=self.current.secret)
            log.warning("%s has no policy %s any more: the settings' weights hold", POLICY.name, self._settings.policy)

    def _set(self, policy: Policy) -> None:
        self._version, self.current = policy.version, apply_weights(self._settings, policy, self.current.secret)
        named = {name for name, weight in policy.weights.items() if weight > 0}
        missing = sorted(named - {variant.name for variant in self._settings.variants})
        if self.current.version == SETTINGS_VERSION:
            log.error(
                "policy %s version %d draws %s alone, of which [orchestration] variants has none: its weights hold",
                policy.name,
                policy.version,
                ", ".join(missing),
            )
            return
        if missing:
            log.warning(
                "policy %s version %d draws %s too, which [orchestration] variants does not have: the others share it",
                policy.name,
                policy.version,
                ", ".join(missing),
            )
        weights = ", ".join(f"{one.name} {one.weight:.3g}" for one in self.current.settings.variants)
        log.info("policy %s version %d is in force, by %s: %s", policy.name, policy.version, policy.decision, weights)


@asynccontextmanager
async def follow_policies(
    mesh: WorkerRuntime, settings: OrchestrationSettings, secret: bytes
) -> AsyncIterator[Policies]:
    """The policy in force, kept up to date from the log.

    No ask is taken before the log was read to its end, or could not be in time: then what is known so far holds, and
    the worker is not ready until the rest is. A broker that goes away later leaves what is known in force.
    """
    policies = Policies(settings, secret)
    mesh.ready_when("policy", lambda: policies.known)
    reader = LogReader(
        mesh.logs.access, POLICY.name, policies.apply, on_reset=policies.reset, on_at_end=policies.settle
    )
    async with reader:
        try:
            await reader.wait_until_at_end(START_TIMEOUT)
        except SetupError as error:
            log.warning("%s; going on reading it", error)
        yield policies
