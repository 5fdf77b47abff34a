"""The error hierarchy."""

import re

from poise import errors
from poise.errors import (
    CallError,
    DeadlineExceededError,
    HandlerError,
    NonDeterminismError,
    NotAcknowledgedError,
    PoiseError,
    TransportError,
)

NODE = re.compile(r"^([ │├└─]*?)(\w+Error)\b", re.MULTILINE)


def test_docstring_tree_equals_the_class_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for prefix, name in NODE.findall(errors.__doc__ or ""):
        while path and path[-1][0] >= len(prefix):
            path.pop()
        if path:
            drawn[name] = path[-1][1]
        path.append((len(prefix), name))
    classes = {
        kind.__name__: kind.__bases__[0].__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PoiseError) and kind is not PoiseError
    }
    assert drawn == classes


def test_errors_that_are_told_apart_are_not_each_others_children() -> None:
    assert not issubclass(NotAcknowledgedError, DeadlineExceededError)
    assert not issubclass(NonDeterminismError, (HandlerError, TransportError, CallError))


def test_a_request_that_was_not_acknowledged_keeps_its_fault() -> None:
    fault = NotAcknowledgedError("no leader").fault()
    assert (fault.type, fault.status, fault.retryable) == ("urn:poise:not-taken", 503, True)
    assert NonDeterminismError("x").fault().type == "urn:poise:diverged"
