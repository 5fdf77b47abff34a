"""Record size: shortens a run record to its topic's limit, and marks which fields were shortened. No clock, no I/O."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_json

from poise.contracts import RunRecord
from poise.contracts.json_size import json_size, truncate_to_json_size
from poise.rpc.encoding import encode

LIST_LIMITS: Final = (1_000, 100, 10, 1)
"""Maximum list items, tried in turn until each text can keep `MIN_TEXT_BYTES`."""
MIN_TEXT_BYTES: Final = 500
"""Bytes of a text that is still informative."""
_IDENTIFIERS: Final = frozenset({"run_id", "tenant", "workflow", "id", "passage", "variant", "policy"})
"""Fields that are not cut."""
_SHORTENED_FIELD_BYTES: Final = 100
"""Bytes reserved for the field `shortened` itself."""


def shorten(record: RunRecord, max_bytes: int) -> RunRecord:
    """Return a record of at most `max_bytes` of JSON: cut long lists, then the longest texts, all to the same length.

    The record's field `shortened` names the fields that were cut.

    Raises:
        EncodingError: A field cannot be encoded as JSON.
    """
    if len(encode(record)) <= max_bytes:
        return record
    original = record.model_dump(mode="json", exclude_none=True)
    cut = original
    length = 0
    for max_items in LIST_LIMITS:
        cut = _limit_lists(original, max_items)
        sizes = [json_size(text) for text in _texts(cut)]
        other_bytes = len(to_json(cut, inf_nan_mode="null")) - sum(sizes) + _SHORTENED_FIELD_BYTES
        length = _common_length(sizes, max_bytes - other_bytes)
        if length >= MIN_TEXT_BYTES:
            break
    cut = _cut(cut, length)
    shortened = [name for name, value in original.items() if cut[name] != value]
    return RunRecord.model_validate({**cut, "shortened": shortened})


def _common_length(sizes: Sequence[int], max_bytes: int) -> int:
    """Return the length to which the longest texts are cut so that all of them fit."""
    remaining = max_bytes
    for number, size in enumerate(sorted(sizes)):
        share = remaining // (len(sizes) - number)
        if size > share:
            return max(0, share)
        remaining -= size
    return max(sizes, default=0)


def _limit_lists(value: Any, max_items: int) -> Any:
    """Limit the items of each list; of a mapping of numbers, keep the largest."""
    if isinstance(value, Mapping):
        limited = {name: _limit_lists(item, max_items) for name, item in value.items()}
        if len(limited) > max_items and all(isinstance(item, float) for item in limited.values()):
            limited = dict(sorted(limited.items(), key=lambda item: item[1])[-max_items:])
        return limited
    if isinstance(value, list):
        return [_limit_lists(item, max_items) for item in value[:max_items]]
    return value


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts that may be cut."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _IDENTIFIERS:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, Mapping):
        return {name: item if name in _IDENTIFIERS else _cut(item, length) for name, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, length) for item in value]
    return truncate_to_json_size(value, length) if isinstance(value, str) else value
