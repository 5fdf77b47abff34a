"""JSON Schema in tests: generators of valid and nearly valid values, and a validator with ECMAScript's patterns.

Supports only the keywords that Poise publishes; an unknown keyword fails, so that none is overlooked.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.protocols import Validator

Json = Any
Schema = dict[str, Any]

TEXT = st.characters(exclude_categories=["Cs"])
"""Any character except surrogates, which UTF-8 cannot encode."""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.integers(-10, 10).map(float)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", " ", "\x1c", "\x85", "\n", "\ufeff", "5", "true", "null", "x" * 81, "x" * 10_001])
    | st.text(TEXT, max_size=5)
)
ANY = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(TEXT), inner, max_size=2)
)
_KNOWN = {
    *("$schema", "$id", "$defs", "$ref", "title", "description", "default", "type", "enum", "const", "anyOf", "oneOf"),
    *(
        "properties",
        "required",
        "additionalProperties",
        "minProperties",
        "items",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
    ),
    *("pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "if", "then", "else", "components"),
}
_PATTERN_LENGTH = 40
_EXACT = 2**53
"""From here on, a float does not represent every integer."""


def validator(schema: Schema) -> Validator:
    """Return a validator with ECMAScript's patterns: `$` matches only at the very end, not before a last newline."""
    instance: Validator = _Validator(schema)
    return instance


def _pattern(_: Validator, pattern: str, instance: object, __: Schema) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not re.search(_python(pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _python(pattern: str) -> str:
    return re.sub(r"\$$", r"\\Z", pattern)


_Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})


def valid_values(root: Schema) -> st.SearchStrategy[Json]:
    """Return a strategy for values that a schema accepts."""
    whole = validator(root)
    return _values(root, root).filter(whole.is_valid)


def _values(schema: Schema | bool, root: Schema) -> st.SearchStrategy[Json]:
    if schema is True or not schema:
        return ANY
    assert isinstance(schema, dict)
    assert not (unknown := schema.keys() - _KNOWN), unknown
    if "$ref" in schema:
        return st.deferred(lambda: _values(resolve_ref(schema["$ref"], root), root))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if alternatives := schema.get("anyOf", schema.get("oneOf")):
        return st.one_of(*(_values(one, root) for one in alternatives))
    return _BY_TYPE[schema["type"]](schema, root)


def resolve_ref(ref: str, root: Schema) -> Schema:
    """Return the part of a document that a reference names."""
    found = root
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _objects(schema: Schema, root: Schema) -> st.SearchStrategy[Json]:
    fields = {name: _values(one, root) for name, one in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    named = st.fixed_dictionaries(
        {name: fields[name] for name in required},
        optional={name: one for name, one in fields.items() if name not in required},
    )
    more = schema.get("additionalProperties", True)
    if more is False:
        return named
    others = st.dictionaries(
        st.text(TEXT).filter(lambda name: name not in fields),
        _values(more, root),
        max_size=2,
        min_size=min(schema.get("minProperties", 0), 2),
    )
    return st.builds(lambda one, other: {**other, **one}, named, others)


def _arrays(schema: Schema, root: Schema) -> st.SearchStrategy[Json]:
    least = schema.get("minItems", 0)
    return st.lists(_values(schema["items"], root), min_size=least, max_size=min(schema.get("maxItems", 3), least + 3))


def _strings(schema: Schema, _: Schema) -> st.SearchStrategy[Json]:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if "pattern" in schema:
        return st.from_regex(_python(schema["pattern"]), alphabet=TEXT).map(lambda text: text[:_PATTERN_LENGTH])
    text = st.text(TEXT, min_size=least, max_size=min(most or 20, least + 20))
    return text if most is None else text | st.just("語" * most)


def _integers(schema: Schema, _: Schema) -> st.SearchStrategy[Json]:
    whole = st.integers(schema.get("minimum"), schema.get("maximum"))
    return whole | whole.filter(lambda number: abs(number) < _EXACT).map(float)


def _numbers(schema: Schema, _: Schema) -> st.SearchStrategy[Json]:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        allow_nan=False,
        allow_infinity=False,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
    )


_BY_TYPE: dict[str, Callable[[Schema, Schema], st.SearchStrategy[Json]]] = {
    "object": _objects,
    "array": _arrays,
    "string": _strings,
    "integer": _integers,
    "number": _numbers,
    "boolean": lambda _, __: st.booleans(),
    "null": lambda _, __: st.none(),
}


@st.composite
def nearly_valid_values(draw: st.DrawFn, root: Schema) -> Json:
    """Draw a valid value with one or two changes somewhere in it."""
    value = copy.deepcopy(draw(valid_values(root)))
    for _ in range(draw(st.integers(1, 2))):
        value = _changed(draw, value)
    return value


def _changed(draw: st.DrawFn, value: Json) -> Json:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(ANY)
    where: Any = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    how = draw(st.sampled_from(["replace", "remove", "add", "deeper"]))
    if how == "add" and isinstance(value, list):
        return [*value, draw(ANY)]
    if how == "remove":
        del value[where]
    else:
        if how == "add":
            where = draw(st.text(TEXT) | st.just(f"{where}s"))
        value[where] = _changed(draw, value[where]) if how == "deeper" else draw(ANY)
    return value


def encode_body(value: Json) -> bytes:
    """Encode a value as a request body."""
    return json.dumps(value, ensure_ascii=False).encode()
