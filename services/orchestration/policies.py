"""Policies: which weights are in force, as the log `poise.policy` has it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from poise.contracts import Draw, Policy
from poise.contracts.topics import POLICY
from poise.messaging import Mesh, Record
from poise.policy import draw
from services.orchestration.settings import OrchestrationSettings, Variant

log = logging.getLogger(__name__)

UNSET: Final = 0
"""The version of what holds until a policy is set, the settings' own weights. Those of the log begin with 1."""
READ_WITHIN: Final = 5.0
"""Seconds that a worker waits, before it takes its first ask, until the log was read to its end."""
AGAIN_AFTER: Final = 2.0
"""Seconds after which a log that could not be read is read again."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force over a worker's variants."""

    settings: OrchestrationSettings
    """The worker's, its variants with the weights that are in force."""
    version: int = UNSET
    """Of the policy that they are from."""

    def draw(self, run: str) -> Draw:
        """The variant that is asked first for a run."""
        settings = self.settings
        choice = draw(settings.variants, run=run, policy=settings.policy, version=self.version)
        return Draw(
            variant=choice.variant.name,
            probability=choice.probability,
            policy=settings.policy,
            policy_version=self.version,
        )

    def standing(self, drawn: Draw, run: str) -> tuple[Draw, Variant]:
        """What was drawn for a run, and the variant; drawn anew where the settings do not have that one any more."""
        named = {one.name: one for one in self.settings.variants}
        if drawn.variant not in named:  # the run was begun by a worker that was configured otherwise
            drawn = self.draw(run)
        return drawn, named[drawn.variant]


def in_force(settings: OrchestrationSettings, policy: Policy) -> InForce:
    """What a policy says of a worker's variants.

    One that the policy does not name has no weight: it is not drawn, and stands by. What the policy gives to one that
    the worker does not have goes to the others in proportion, for weights are shares of their sum. Where it has none of
    those that the policy would have drawn, its own weights hold, as if nothing had been set.
    """
    weights = policy.weights
    variants = tuple(one.model_copy(update={"weight": weights.get(one.name, 0.0)}) for one in settings.variants)
    if not any(one.weight > 0 for one in variants):
        return InForce(settings)
    return InForce(settings.model_copy(update={"variants": variants}), policy.version)


class Policies:
    """The policy in force: the settings' weights until the log has another one, then the highest version it has.

    Args:
        settings: The worker's.
    """

    def __init__(self, settings: OrchestrationSettings) -> None:
        self.now = InForce(settings)
        """What is in force now; whoever needs more than one thing of it takes it once."""
        self._settings = settings
        self._version = UNSET
        self._last: Record | None = None
        """Of which the policy in force is."""

    def apply(self, records: Iterable[Record]) -> None:
        """Apply records, in the log's order."""
        for record in records:
            if record.key != self._settings.policy.encode():
                continue
            try:
                policy = Policy.parse(record.value or b"")
            except ValidationError as error:
                log.warning("%s is no policy, version %d stays in force: %s", record.position, self.now.version, error)
                continue
            if policy.version > self._version or self._anew(record):
                self._last = record
                self._set(policy)

    def _anew(self, record: Record) -> bool:
        """Whether the log was made anew, and its versions begin with 1 again: a later record at an earlier place.

        One log that is read again, after an error, has older records at earlier places.
        """
        last = self._last
        return last is not None and record.offset <= last.offset and record.timestamp > last.timestamp

    def _set(self, policy: Policy) -> None:
        self._version, self.now = policy.version, in_force(self._settings, policy)
        named = {name for name, weight in policy.weights.items() if weight > 0}
        missing = sorted(named - {variant.name for variant in self._settings.variants})
        if self.now.version == UNSET:
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
        weights = ", ".join(f"{one.name} {one.weight:.3g}" for one in self.now.settings.variants)
        log.info("policy %s version %d is in force, by %s: %s", policy.name, policy.version, policy.decision, weights)


@asynccontextmanager
async def following_policies(mesh: Mesh, settings: OrchestrationSettings) -> AsyncIterator[Policies]:
    """The policy in force, kept up to date from the log.

    No ask is taken before the log was read to its end, or could not be in time: then what is known so far holds, and
    the worker is not ready until the rest is. A broker that goes away later leaves what is known in force.
    """
    policies, read = Policies(settings), asyncio.Event()
    task = asyncio.create_task(_follow(mesh, policies, read))
    mesh.ready_when("policy", read.is_set)
    try:
        try:
            await asyncio.wait_for(read.wait(), READ_WITHIN)
        except TimeoutError:
            log.warning("%s was not read to its end in %g s, going on reading it", POLICY.name, READ_WITHIN)
        yield policies
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _follow(mesh: Mesh, policies: Policies, read: asyncio.Event) -> None:
    while True:
        try:
            async with mesh.follow(POLICY.name) as follower:
                async for records in follower.read_to_end():
                    policies.apply(records)
                read.set()
                async for records in follower:
                    policies.apply(records)
        except Exception as error:  # noqa: BLE001 - whatever it is: what is in force stays so until it is read again
            log.warning("%s cannot be read, trying again: %s", POLICY.name, error)
        await asyncio.sleep(AGAIN_AFTER)
