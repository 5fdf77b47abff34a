"""Numbers of any size in the bodies that processes follow: a body that has one is refused where it is read."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from poise.contracts import Cancel, DocumentVersion, Manifest, Part, Policy, PolicyCommand
from poise.contracts.message import Message
from poise.contracts.policy import Decision, PolicyState

SPEC = {"name": "p", "weights": {"a": 1.0}, "limits": {"latency": 1.0, "cost": 1.0, "low": 0.5}}
FINDING = {
    "variant": "a",
    "about": "others",
    "method": "m",
    "statistic": 1.0,
    "threshold": 1.0,
    "samples": {"a": {"count": 1, "mean": 0.5, "low": 0.1, "high": 0.9}},
    "since": 1.0,
}
BODIES: list[tuple[type[Message], dict[str, Any]]] = [
    (Cancel, {"run": "r", "tenant": "t", "deadline": 1}),
    (Manifest, {"document": "d", "parts": 1, "published": 1.0}),
    (Part, {"document": "d", "part": 1, "source": "s", "text": "t", "vector": "", "model": "m", "published": 1.0}),
    (DocumentVersion, {"documents": "i", "digest": "d"}),
    (
        Policy,
        {"name": "p", "version": 1, "weights": {"a": 1.0}, "spec": SPEC, "decision": "d", "at": 1.0, "by": "b"},
    ),
    (PolicyCommand, {"id": "c", "action": "set", "spec": SPEC, "version": 1, "by": "b"}),
    (PolicyState, {"name": "p", "scores": 1, "commands": 1, "decider": {}}),
    (
        Decision,
        {
            "id": "d",
            "policy": "p",
            "action": "set",
            "acted": True,
            "reason": "r",
            "before": {"a": 1.0},
            "after": {"a": 1.0},
            "version": 1,
            "finding": FINDING,
            "by": "b",
            "at": 1.0,
            "scores": 1,
        },
    ),
]
HUGE = [f"1{'0' * 400}", f"-1{'0' * 400}", "1e400", "-1e400", "9" * 5_000, "NaN", "Infinity", "-Infinity"]


def places(body: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a body has its numbers."""
    if isinstance(body, dict):
        return [place for name, value in body.items() for place in places(value, (*path, name))]
    return [path] if isinstance(body, int | float) and not isinstance(body, bool) else []


def put(body: dict[str, Any], place: tuple[str, ...], number: str) -> bytes:
    """The body as JSON with this number in that place."""
    copy = json.loads(json.dumps(body))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = "@"
    return json.dumps(copy).replace('"@"', number).encode()


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=lambda value: getattr(value, "kind", ""))
def test_a_number_out_of_range_is_refused_wherever_it_stands(kind: type[Message], body: dict[str, Any]) -> None:
    assert kind.parse(json.dumps(body))
    for place in places(body):
        for number in HUGE:
            with pytest.raises(ValidationError):
                kind.parse(put(body, place, number))


def test_every_number_of_these_bodies_is_bounded() -> None:
    """A field that is added without bounds is found here."""

    def unbounded(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [found for item in schema for found in unbounded(item, path)]
        if not isinstance(schema, dict):
            return []
        if schema.get("type") == "integer" and not (
            {"minimum", "exclusiveMinimum"} & schema.keys() and {"maximum", "exclusiveMaximum"} & schema.keys()
        ):
            return [path]
        return [found for name, item in schema.items() for found in unbounded(item, f"{path}.{name}")]

    for kind, _ in BODIES:
        assert not unbounded(kind.model_json_schema(), kind.kind)
    assert math.isfinite(Cancel(run="r", tenant="t", deadline=2**63 - 1).deadline / 1_000)
