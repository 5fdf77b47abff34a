"""Custom tiers: the rules for them, and the creation of their topics."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeGuard, get_type_hints

from poise.contracts.custom_topics import KIND_PATTERN, RESERVED, TIER_NAME_PATTERN
from poise.contracts.message import Message, Request
from poise.contracts.topics import REQUESTS, Topic
from poise.errors import SetupError
from poise.kafka.admin import KafkaAdmin
from poise.text.error_text import error_message
from poise.worker.executors import ExecutorHandler, ProcessHandler


async def ensure_topics(admin: KafkaAdmin, tier: str, topics: Collection[Topic]) -> None:
    """Create the missing topics of a custom tier.

    Raises:
        SetupError: The broker does not allow this process to create them.
    """
    present = await admin.list_topics()
    missing = [topic for topic in topics if topic.name not in present]
    if not missing:
        return
    try:
        await admin.create(missing)
    except SetupError as error:
        raise SetupError(
            f"tier {tier}: {', '.join(topic.name for topic in missing)} could not be created ({error_message(error)}): "
            "run `poise topics apply --tier FILE.py` with an account that may create topics"
        ) from error


# -- rules -------------------------------------------------------------------------------------------


def tier_problems(name: str, message_types: Iterable[Any]) -> Iterator[str]:
    """Yield what is wrong with the name and the requests of a custom tier."""
    if not TIER_NAME_PATTERN.fullmatch(name):
        yield "its name must be lower-case letters, digits and hyphens, at most 40, and start with a letter"
    elif name in RESERVED:
        yield f"{name} is reserved for Poise: choose another name"
    seen: dict[str, str] = {}
    message_types = tuple(message_types)
    if not message_types:
        yield "it has no handlers"
    for message_type in message_types:
        problems = list(_request_problems(name, message_type))
        yield from problems
        if problems:
            continue
        other = seen.setdefault(message_type.kind, message_type.__name__)
        if other != message_type.__name__:
            yield f"{other} and {message_type.__name__} are both {message_type.kind!r}: give each a different kind"


def _request_problems(tier: str, message_type: Any) -> Iterator[str]:
    if not (isinstance(message_type, type) and issubclass(message_type, Request)):
        name = getattr(message_type, "__name__", message_type)
        yield f"{name} is not a Request: only messages with a reply can be handled"
        return
    if message_type in REQUESTS:
        yield f"{message_type.__name__} belongs to a built-in tier"
        return
    reply = getattr(message_type, "reply", None)
    if not (isinstance(reply, type) and issubclass(reply, Message)):
        yield f"{message_type.__name__} has no reply: give it `reply = …`, the class of its reply"
    for body in (message_type, reply):
        kind = getattr(body, "kind", None)
        if isinstance(body, type) and not (isinstance(kind, str) and KIND_PATTERN.fullmatch(kind)):
            yield f"{body.__name__}.kind is {kind!r}, which is not name/version, such as 'translate/1'"
    named_tier = getattr(message_type, "tier", None)
    if named_tier != tier:
        yield (
            f"{message_type.__name__} has tier {named_tier!r}: give it `tier = {tier!r}`, so that callers know where "
            "it goes"
        )


def handler_problems(handlers: Mapping[Any, Any]) -> Iterator[str]:
    """Yield where the signatures of the handlers contradict their message types."""
    for message_type, handler in handlers.items():
        function = handler.function if isinstance(handler, ExecutorHandler) else handler
        if not isinstance(message_type, type):
            continue  # reported already
        if not callable(function):
            yield f"the handler of {message_type.__name__} is {function!r}, which is not a function"
            continue
        takes = ("request",) if isinstance(handler, ProcessHandler) else ("request", "context")
        yield from (
            f"{_name(function)} handles {message_type.__name__}, but {why}"
            for why in _signature_problems(function, message_type, takes)
        )


def _signature_problems(
    function: Callable[..., Any], message_type: type[Message], takes: tuple[str, ...]
) -> Iterator[str]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # unknown for some callables written in C
        return
    try:
        signature.bind(*takes)
    except TypeError:
        yield f"takes {signature}, not ({', '.join(takes)})"
        return
    hints = _hints(function)
    asked = hints.get(next(iter(signature.parameters)))
    if _is_class(asked) and not _compatible(asked, message_type):
        yield f"its request is annotated as {asked.__name__}"
    reply, returned = getattr(message_type, "reply", None), hints.get("return")
    if _is_class(reply) and _is_class(returned) and not _compatible(returned, reply):
        yield f"returns {returned.__name__}, not {reply.__name__}"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # imported for the type checker only, or not a function
        return {}


def _is_class(hint: Any) -> TypeGuard[type]:
    return isinstance(hint, type) and hint is not Any


def _compatible(one: type, other: type) -> bool:
    return issubclass(one, other) or issubclass(other, one)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
