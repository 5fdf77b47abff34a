"""The active policy: the variants' weights that are in force, read from the log `poise.policy`."""

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
from poise.worker.connection import MeshConnection
from poise_services.orchestration.settings import OrchestrationSettings, Variant

log = logging.getLogger(__name__)

SETTINGS_VERSION: Final = 0
"""Version of the settings' weights, which are in force until a policy is set. The log's versions begin with 1."""
START_TIMEOUT: Final = 5.0
"""Maximum seconds that a worker waits for the end of the log before it accepts asks."""


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """The policy in force, applied to a worker's variants."""

    weighted_settings: OrchestrationSettings
    """The worker's settings, with the weights in force."""
    version: int = SETTINGS_VERSION
    """Version of the policy."""
    secret: bytes = field(kw_only=True, repr=False)
    """The secret that draws are made with."""

    def draw(self, run: str) -> Draw:
        """Draw the variant that a run asks first."""
        settings = self.weighted_settings
        choice = draw(settings.variants, run=run, policy=settings.policy, version=self.version, secret=self.secret)
        return Draw(
            variant=choice.variant.name,
            probability=choice.probability,
            policy=settings.policy,
            policy_version=self.version,
        )

    def resolve(self, drawn: Draw, run: str) -> tuple[Draw, Variant]:
        """Return the draw and its variant; draw again if the settings no longer have that variant."""
        variants = {variant.name: variant for variant in self.weighted_settings.variants}
        if drawn.variant not in variants:  # drawn by another worker with other settings, before a crash
            drawn = self.draw(run)
        return drawn, variants[drawn.variant]


def apply_weights(settings: OrchestrationSettings, policy: Policy, secret: bytes) -> ActivePolicy:
    """Apply a policy's weights to a worker's variants.

    A variant that the policy does not name has weight 0: it is not drawn and is on standby. The weight of a variant
    that the worker does not have is shared by the others in proportion, because weights are fractions of their sum. If
    the worker has none of the variants that the policy draws, the settings' weights are in force, as without a policy.
    """
    weights = policy.weights
    variants = tuple(
        variant.model_copy(update={"weight": weights.get(variant.name, 0.0)}) for variant in settings.variants
    )
    if not any(variant.weight > 0 for variant in variants):
        return ActivePolicy(settings, secret=secret)
    return ActivePolicy(settings.model_copy(update={"variants": variants}), policy.version, secret=secret)


class PolicyFollower:
    """Follows the policy in force: the settings' weights until the log has a policy, then its highest version.

    Args:
        settings: The worker's settings.
        secret: The secret that draws are made with; None = a random one of this process.
    """

    def __init__(self, settings: OrchestrationSettings, secret: bytes | None = None) -> None:
        self.current = ActivePolicy(settings, secret=secret or token_bytes(32))
        """The policy in force. Read it once if you need several of its values."""
        self.reached_opening_end = False
        """Whether everything has been read that was in the log when it was opened."""
        self._settings = settings
        self._version = SETTINGS_VERSION

    def apply(self, record: Record) -> None:
        """Apply a record.

        Raises:
            ValidationError: It is not a policy; the one in force stays.
        """
        if record.key != self._settings.policy.encode():
            return
        policy = Policy.parse(record.value or b"")
        if policy.version > self._version:
            self._set(policy)

    async def reset(self) -> None:
        """Start over with a recreated log, whose versions begin with 1; keep the policy until the log is read."""
        self._version = SETTINGS_VERSION
        self.reached_opening_end = False

    def on_opening_end(self) -> None:
        """Note that the end at opening is reached; without a policy in the log, the settings' weights are in force."""
        self.reached_opening_end = True
        if self._version == SETTINGS_VERSION and self.current.version != SETTINGS_VERSION:
            self.current = ActivePolicy(self._settings, secret=self.current.secret)
            log.warning(
                "%s no longer has a policy %s: the settings' weights are in force", POLICY.name, self._settings.policy
            )

    def _set(self, policy: Policy) -> None:
        self._version = policy.version
        self.current = apply_weights(self._settings, policy, self.current.secret)
        drawn = {name for name, weight in policy.weights.items() if weight > 0}
        missing = sorted(drawn - {variant.name for variant in self._settings.variants})
        if self.current.version == SETTINGS_VERSION:
            log.error(
                "policy %s version %d draws only %s, not in [orchestration] variants: the settings' weights apply",
                policy.name,
                policy.version,
                ", ".join(missing),
            )
            return
        if missing:
            log.warning(
                "policy %s version %d draws %s, not in [orchestration] variants: the other variants share its weight",
                policy.name,
                policy.version,
                ", ".join(missing),
            )
        weights = ", ".join(
            f"{variant.name} {variant.weight:.3g}" for variant in self.current.weighted_settings.variants
        )
        log.info("policy %s version %d is in force, by %s: %s", policy.name, policy.version, policy.decision, weights)


@asynccontextmanager
async def follow_policy(
    mesh: MeshConnection, settings: OrchestrationSettings, secret: bytes
) -> AsyncIterator[PolicyFollower]:
    """Follow the policy log, and yield its follower.

    The worker accepts no asks until the log has been read to its end or `START_TIMEOUT` has passed. After the timeout,
    the highest version read so far is in force, and the worker is not ready until it has read the log to its end. If
    the broker becomes unavailable later, the policy stays in force.
    """
    policy_follower = PolicyFollower(settings, secret)
    mesh.ready_when("policy", lambda: policy_follower.reached_opening_end)
    reader = LogReader(
        mesh.logs.access,
        POLICY.name,
        policy_follower.apply,
        on_reset=policy_follower.reset,
        on_opening_end=policy_follower.on_opening_end,
    )
    async with reader:
        try:
            await reader.wait_until_opening_end(START_TIMEOUT)
        except SetupError as error:
            log.warning("%s; still reading it", error)
        yield policy_follower
