"""The naming convention for topics of custom tiers: the tier's name determines them.

There is no registry. The topics of the built-in tiers are in the table of `topics`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args

from poise.contracts.message import Message, Request
from poise.contracts.topics import (
    BATCH,
    CATALOGUE,
    DAY,
    INTERACTIVE,
    PREFIX,
    REQUESTS,
    RETRY_DELAYS,
    Deadlines,
    Lane,
    Topic,
    dead_letter_topic,
    dead_letter_topic_name,
    retry_topic,
)

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
BUILT_IN: Final = frozenset({"gateway", "orchestration", "retrieval", "inference", "integration", "evaluation"})
RESERVED: Final = BUILT_IN | {name.split(".")[1] for name in CATALOGUE} | {"decisions", "feedback", "policy", "probes"}
"""Names that a custom tier must not have: those of built-in tiers and topics."""

TIER_NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
KIND_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]*/[1-9][0-9]*")
_CUSTOM_TOPIC: Final = re.compile(rf"{re.escape(PREFIX)}({TIER_NAME_PATTERN.pattern})\..+")
_DEAD_LETTER_TOPIC: Final = re.compile(rf"{re.escape(PREFIX)}({TIER_NAME_PATTERN.pattern})\.dead")


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """Options of the request topics of a custom tier."""

    ordered: bool = False
    """Whether messages of one key are handled one after another."""
    partitions: int = 6
    """Cannot be changed later, because the number determines the partition of each key."""
    retention: float | None = DAY
    """Retention of requests in seconds; None = forever."""
    interactive: Deadlines = INTERACTIVE
    """The deadlines of the interactive lane."""
    batch: Deadlines = BATCH
    """The deadlines of the batch lane."""


def custom_tier_topics(
    tier: str, accepts: Iterable[type[Message]], options: TopicOptions | None = None
) -> tuple[Topic, ...]:
    """Return all topics of a custom tier: requests by lane, delayed retries and dead letters."""
    accepts, options = tuple(accepts), options or TopicOptions()
    requests = (
        Topic(
            f"{PREFIX}{tier}.requests.{lane}",
            accepts,
            tier,
            key="the caller's, else run/step" if options.ordered else "run/step",
            partitions=options.partitions,
            retention=options.retention,
            ordered=options.ordered,
            deadlines=options.batch if lane == "batch" else options.interactive,
        )
        for lane in LANES
    )
    return (*requests, *(retry_topic(tier, delay) for delay in RETRY_DELAYS), dead_letter_topic(tier))


def request_topic(request_type: type[Request[Any]], lane: Lane) -> Topic:
    """Return the topic of a request: from the table, or from the tier that its class names.

    Raises:
        LookupError: The request is not in the table and names no tier.
    """
    if request_type in REQUESTS:
        return REQUESTS[request_type][lane]
    tier: str | None = getattr(request_type, "tier", None)
    if tier is None:
        raise LookupError(f'{request_type.__name__} names no tier to answer it: give the class `tier = "…"`')
    return custom_tier_topics(tier, (request_type,))[LANES.index(lane)]


def find_topic(name: str) -> Topic | None:
    """Return a topic of a built-in or custom tier by its name; None if it is neither.

    Only the name of a custom tier's topic is known here, so it accepts any `Message` and has the default options.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    found = _CUSTOM_TOPIC.fullmatch(name)
    if found is None or found[1] in RESERVED:
        return None
    return next((topic for topic in custom_tier_topics(found[1], (Message,)) if topic.name == name), None)


def tiers_with_dead_letters(names: Iterable[str]) -> list[str]:
    """Return the built-in and custom tiers whose dead-letter topics are among the topic names, sorted."""
    found = (match[1] for name in names if (match := _DEAD_LETTER_TOPIC.fullmatch(name)))
    return sorted(tier for tier in found if dead_letter_topic_name(tier) in CATALOGUE or tier not in RESERVED)
