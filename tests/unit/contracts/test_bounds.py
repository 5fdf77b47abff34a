"""Numbers of any size, anywhere in any body, are refused by the parser or safe to compute with."""

import json
import math
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from poise.contracts import Cancel, Message, PolicyState, RunRecord
from poise.contracts.record import Draw, Generation, StepRecord
from poise.contracts.span import SpanRecord
from poise.contracts.topics import CATALOGUE
from poise.kafka.asyncapi_document import body_schemas

WIRE = Path(__file__).parents[2] / "contract" / "test_wire.py"
GOLDEN: list[tuple[str, Message, str]] = runpy.run_path(str(WIRE))["GOLDEN"]
BODIES: dict[type[Message], dict[str, Any]] = {
    **{type(body): json.loads(text) for _, body, text in GOLDEN},
    PolicyState: {"name": "p", "scores": 1, "commands": 1, "decider": {"any": 1.5}},
    SpanRecord: {
        "trace_id": "t",
        "span_id": "s",
        "name": "n",
        "service": "s",
        "instance": "i",
        "start": 1.0,
        "ms": 1.0,
        "attributes": {"i": 1, "f": 1.5},
    },
    RunRecord: {
        "run_id": "r",
        "workflow": "w",
        "tenant": "t",
        "question": "q",
        "started": 1.0,
        "finished": 2.0,
        "steps": [StepRecord(step="s", ms=1.0).model_dump()],
        "generations": [Generation(variant="v").model_dump()],
        "draw": Draw(variant="v", probability=1.0, policy="p", policy_version=1, ms=1.0, cost=1.0).model_dump(),
        "passages": [{"id": "d#0", "source": "s", "text": "t", "score": 0.5, "age": 1.0, "version": 3}],
    },
}
HUGE = [f"1{'0' * 400}", f"-1{'0' * 400}", "1e400", "-1e400", "9" * 5_000, "NaN", "Infinity", "-Infinity"]

numbers = st.one_of(
    st.sampled_from(HUGE),
    st.integers().map(str),
    st.floats().map(repr),
    st.integers(0, 600).map(lambda exponent: f"1e{exponent}"),
    st.integers(1, 5_000).map(lambda digits: "7" * digits),
    st.sampled_from(["[" * 100_000, "[" * 300 + "]" * 300, "0.1e-5000", "-0", "01", "1_0", '"5"', "null", "true"]),
)


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of the values of a body."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from places(value, (*path, name))
    elif isinstance(body, list):
        for number, value in enumerate(body):
            yield from places(value, (*path, number))
    else:
        yield path


def is_number(body: Any, place: tuple[Any, ...]) -> bool:
    for name in place:
        body = body[name]
    return isinstance(body, int | float) and not isinstance(body, bool)


def put(body: dict[str, Any], place: tuple[Any, ...], number: str) -> bytes:
    """Return the body as JSON with a number at the given path."""
    copy = json.loads(json.dumps(body))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = "@"
    return json.dumps(copy).replace('"@"', number).encode()


EVERYWHERE = [(kind, place) for kind, body in BODIES.items() for place in places(body)]
FREE = (PolicyState, ("decider", "any"))
"""What the decider alone reads, which looks at it itself."""
NUMBERS = [(kind, at) for kind, at in EVERYWHERE if is_number(BODIES[kind], at) and (kind, at) != FREE]


def test_every_body_of_the_catalog_is_tested() -> None:
    assert {kind.kind for kind in BODIES} >= set(body_schemas())
    for kind, body in BODIES.items():
        assert kind.parse(json.dumps(body))


@pytest.mark.parametrize(("kind", "place"), NUMBERS, ids=lambda value: getattr(value, "kind", None) or str(value))
def test_number_out_of_range_is_rejected_in_every_field(kind: type[Message], place: tuple[Any, ...]) -> None:
    for number in HUGE:
        with pytest.raises(ValidationError):
            kind.parse(put(BODIES[kind], place, number))


@given(st.sampled_from(EVERYWHERE).filter(lambda where: where != FREE), numbers, st.booleans())
@example(where=(Cancel, ("deadline",)), number="9" * 5_000, strict=True)
@example(where=(SpanRecord, ("attributes", "i")), number="1e306", strict=False)
def test_any_number_in_any_field_is_parsed_or_rejected(
    where: tuple[type[Message], tuple[Any, ...]], number: str, strict: bool
) -> None:
    kind, place = where
    try:
        read = kind.parse(put(BODIES[kind], place, number), strict=strict)
    except ValidationError:
        return
    assert kind.parse(read.encode()) == read
    assert all(math.isfinite(float(one) * 1_000) for one in found(read.model_dump()))


def found(value: Any) -> Iterator[float]:
    """Yield the numbers in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from found(inner)
    elif isinstance(value, int | float):
        yield value


# -- fields without bounds ---------------------------------------------------------------------------------------------


def without(schema: Any, kind: str, bounds: tuple[set[str], ...], path: str = "") -> list[str]:
    """Return the paths of a JSON type that lack a bound: of each set, one keyword must be present."""
    if isinstance(schema, list):
        return [name for item in schema for name in without(item, kind, bounds, path)]
    if not isinstance(schema, dict):
        return []
    if schema.get("type") == kind and not all(keywords & schema.keys() for keywords in bounds):
        return [path]
    fields = ((key, item) for key, item in schema.items() if key not in {"if", "then"})  # conditions, not fields
    return [name for key, item in fields for name in without(item, kind, bounds, f"{path}.{key}")]


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.kind)
def test_every_integer_is_bounded(kind: type[Message]) -> None:
    bounds = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert not without(kind.model_json_schema(), "integer", bounds)


ANYONES = {kind.kind: kind for topic in CATALOGUE.values() if topic.public for kind in topic.accepts}


@pytest.mark.parametrize("kind", ANYONES.values(), ids=ANYONES)
def test_every_public_text_field_is_bounded(kind: type[Message]) -> None:
    assert not without(kind.model_json_schema(), "string", ({"maxLength", "pattern", "enum", "const"},))
