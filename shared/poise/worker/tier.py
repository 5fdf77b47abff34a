"""A tier: one kind of worker and its handlers."""

import copy
from collections.abc import Mapping
from typing import Self

from poise.contracts.custom_topics import BUILT_IN, TopicOptions, custom_tier_topics
from poise.contracts.message import Message
from poise.contracts.topics import topics_of_tier
from poise.errors import SetupError
from poise.worker import custom_tiers
from poise.worker.context import Handler, OnFault, SyncHandler
from poise.worker.executors import ProcessHandler, as_handler


class Tier:
    """One kind of worker: a built-in tier, chosen by its name, or a custom tier.

    The topics of built-in tiers are in the catalog. A custom tier has `poise.<name>.requests.<lane>` and
    `poise.<name>.dead`, which its first worker creates.

    Args:
        name: The tier's name; that of a custom tier has lower-case letters, digits and hyphens.
        handlers: One handler by message type. An async handler runs in the event loop, a plain function in a thread,
            and one from `in_processes` in processes.
        concurrency: Messages handled at once per topic; None = the process's setting.
        topics: Options for the topics of a custom tier; None = the defaults.
        on_fault: Called for each request that ends in a fault: its handler raised it, it expired, or it was cancelled.

    Raises:
        SetupError: The arguments contradict each other or the topics; the message says what to do.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[type[Message], Handler | SyncHandler | ProcessHandler],
        *,
        concurrency: int | None = None,
        topics: TopicOptions | None = None,
        on_fault: OnFault | None = None,
    ) -> None:
        self.name = name
        self.on_fault = on_fault
        problems = list(custom_tiers.handler_problems(handlers))
        if name not in BUILT_IN:
            problems = [*custom_tiers.tier_problems(name, handlers), *problems]
        elif topics is not None:
            problems.append("is built in: its topics are in contracts/topics.py")
        if problems:
            raise SetupError(f"tier {name}: {'; '.join(problems)}")
        self.handlers: dict[type[Message], Handler] = {
            message_type: as_handler(handler) for message_type, handler in handlers.items()
        }
        for message_type, handler in handlers.items():
            if isinstance(handler, ProcessHandler):
                handler.pool(message_type)  # rejects a function that no process can import
        self.concurrency = concurrency
        self.custom_topics = () if name in BUILT_IN else custom_tier_topics(name, handlers, topics)
        """All topics of a custom tier; empty for a built-in one."""
        candidates = self.custom_topics or topics_of_tier(name)
        self.topics = tuple(
            topic for topic in candidates if topic.tier == name and self.handlers.keys() & set(topic.accepts)
        )
        accepted = {message_type for topic in self.topics for message_type in topic.accepts}
        if missing := [handled.__name__ for handled in self.handlers if handled not in accepted]:
            raise SetupError(f"tier {name}: none of its topics accepts {', '.join(missing)}: see contracts/topics.py")
        if unhandled := [message_type.__name__ for message_type in accepted if message_type not in self.handlers]:
            raise SetupError(f"tier {name}: no handler for {', '.join(unhandled)}, which its topics accept")

    def with_handlers(self, handlers: Mapping[type[Message], Handler]) -> Self:
        """Return this tier with other handlers for the same types of message."""
        tier = copy.copy(self)
        tier.handlers = dict(handlers)
        return tier
