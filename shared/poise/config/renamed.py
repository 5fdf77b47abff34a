"""Renamed and removed settings: the old name is refused, and the error states the new one, or what replaces it.

A model of settings lists its renamed fields in `renamed: ClassVar[Mapping[str, str]]`, old name to new name, and its
removed fields in `removed: ClassVar[Mapping[str, str]]`, name to what it did and what to do instead.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from poise.config.toml_lines import KeyPath

NESTED_DELIMITER: Final = "__"
"""Separates the names of nested settings in an environment variable."""


@dataclass(frozen=True, slots=True)
class OldKey:
    """A renamed or removed setting that is used by its old name."""

    path: KeyPath
    """The keys and indexes that lead to it, the old name last."""
    new: str | None
    """Its new name; None = it was removed."""
    removal: str = ""
    """What a removed setting did, and what to do instead."""

    def advice(self, new: str | None = None) -> str:
        """Return what happened to the setting and what to do; `new` is its new name in another notation."""
        return f"was removed: {self.removal}" if self.new is None else f"was renamed: set {new or self.new}"


def renamed_fields(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the renamed fields of a model, old name to new name."""
    renamed: Mapping[str, str] = getattr(model, "renamed", {})
    return renamed


def removed_fields(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the removed fields of a model, name to what it did and what to do instead."""
    removed: Mapping[str, str] = getattr(model, "removed", {})
    return removed


def old_keys(annotation: Any, value: object, path: KeyPath = ()) -> Iterator[OldKey]:
    """Find old names in the plain value of a field: of a model, or of an array or a mapping of models.

    Args:
        annotation: The type of the field.
        value: Its value as TOML and JSON have it.
        path: Where the value is.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _old_keys_of_model(annotation, value, path)
        return
    kind, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        for key, item in value.items() if isinstance(value, Mapping) else ():
            yield from old_keys(arguments[-1], item, (*path, key))
    elif kind in {tuple, list}:
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from old_keys(arguments[0], item, (*path, index))
    else:  # a union, or `Annotated`
        for argument in arguments:
            yield from old_keys(argument, value, path)


def _old_keys_of_model(model: type[BaseModel], value: object, path: KeyPath) -> Iterator[OldKey]:
    renamed, removed = renamed_fields(model), removed_fields(model)
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if key in renamed:
            yield OldKey((*path, key), renamed[key])
        elif key in removed:
            yield OldKey((*path, key), None, removed[key])
        elif key in model.model_fields:
            yield from old_keys(model.model_fields[key].annotation, item, (*path, key))


def old_keys_in_table(model: type[BaseModel], name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Describe each renamed or removed setting of a TOML table."""
    for key in old_keys(model, table):
        where = ".".join(map(str, (name, *key.path[:-1])))
        yield f"[{where}] {key.path[-1]} {key.advice()}"


def old_keys_in_environment(model: type[BaseModel], prefix: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Describe each renamed or removed setting of environment variables: in a variable's name, or in its JSON value.

    Args:
        model: The settings.
        prefix: The prefix of their variables. As in pydantic-settings, case does not matter.
        environment: The variables.
    """
    for variable, text in environment.items():
        if not variable.upper().startswith(prefix.upper()):
            continue
        names = variable[len(prefix) :].lower().split(NESTED_DELIMITER)
        value = _json(text)
        for name in reversed(names):
            value = {name: value}
        for key in old_keys(model, value):
            last = len(key.path) - 1
            if last < len(names):
                new = prefix + NESTED_DELIMITER.join((*names[:last], key.new or "", *names[last + 1 :]))
                yield f"{variable} {key.advice(new.upper())}"
            else:
                yield f"{variable}: {'.'.join(map(str, key.path[len(names) :]))} {key.advice()}"


def _json(text: str) -> object:
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else text
    except (ValueError, RecursionError):  # pydantic-settings reports it
        return text
