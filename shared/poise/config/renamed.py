"""Renamed settings: the old name of a setting is refused, and the error names the new one.

A model of settings lists its renamed fields in `renamed: ClassVar[Mapping[str, str]]`, old name to new name.
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
class RenamedKey:
    """A renamed setting that is used by its old name."""

    path: KeyPath
    """The keys and indexes that lead to it, the old name last."""
    new: str


def renamed_fields(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the renamed fields of a model, old name to new name."""
    renamed: Mapping[str, str] = getattr(model, "renamed", {})
    return renamed


def renamed_keys(annotation: Any, value: object, path: KeyPath = ()) -> Iterator[RenamedKey]:
    """Find renamed settings in the plain value of a field: of a model, or of an array or a mapping of models.

    Args:
        annotation: The type of the field.
        value: Its value as TOML and JSON have it.
        path: Where the value is.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _renamed_in_model(annotation, value, path)
        return
    kind, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        for key, item in value.items() if isinstance(value, Mapping) else ():
            yield from renamed_keys(arguments[-1], item, (*path, key))
    elif kind in {tuple, list}:
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from renamed_keys(arguments[0], item, (*path, index))
    else:  # a union, or `Annotated`
        for argument in arguments:
            yield from renamed_keys(argument, value, path)


def _renamed_in_model(model: type[BaseModel], value: object, path: KeyPath) -> Iterator[RenamedKey]:
    renamed = renamed_fields(model)
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if key in renamed:
            yield RenamedKey((*path, key), renamed[key])
        elif key in model.model_fields:
            yield from renamed_keys(model.model_fields[key].annotation, item, (*path, key))


def renamed_in_table(model: type[BaseModel], name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Describe each renamed setting of a TOML table."""
    for found in renamed_keys(model, table):
        where = ".".join(map(str, (name, *found.path[:-1])))
        yield f"[{where}] {found.path[-1]} was renamed: set {found.new}"


def renamed_in_environment(model: type[BaseModel], prefix: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Describe each renamed setting of environment variables: in a variable's name, or in its JSON value.

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
        for found in renamed_keys(model, value):
            last = len(found.path) - 1
            if last < len(names):
                new = prefix + NESTED_DELIMITER.join((*names[:last], found.new, *names[last + 1 :]))
                yield f"{variable} was renamed: set {new.upper()}"
            else:
                yield f"{variable}: {'.'.join(map(str, found.path[len(names) :]))} was renamed: set {found.new}"


def _json(text: str) -> object:
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else text
    except (ValueError, RecursionError):  # pydantic-settings reports it
        return text
