"""Record size: shortens a run record to its topic's limit, and marks which fields were shortened. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_json

from poise.contracts import RunRecord
from poise.contracts.json_size import json_size, truncate_to_json_size
from poise.rpc.encoding import encode

LIST_LIMITS: Final = (1_000, 100, 10, 1)
"""Maximum list items, tried in turn until the texts can keep `MIN_TEXT_BYTES` bytes each."""
MIN_TEXT_BYTES: Final = 500
"""Bytes of a text that are still informative."""
_NAMES: Final = frozenset({"run_id", "tenant", "workflow", "id", "passage", "variant", "policy"})
"""Fields that are identifiers, not to be cut."""
_MARK: Final = 100
"""Bytes of the field `shortened` itself."""


def shorten(record: RunRecord, room: int) -> RunRecord:
    """Return a record of at most `room` bytes of JSON: cut long lists, then the longest texts, all to the same length.

    The record's field `shortened` names the fields that were cut.

    Raises:
        EncodingError: A field cannot be encoded as JSON.
    """
    if len(encode(record)) <= room:
        return record
    whole = record.model_dump(mode="json", exclude_none=True)
    cut, length = whole, 0
    for most in LIST_LIMITS:
        cut = _limit_lists(whole, most)
        sizes = [json_size(text) for text in _texts(cut)]
        length = _common_length(sizes, room - _MARK - (len(to_json(cut, inf_nan_mode="null")) - sum(sizes)))
        if length >= MIN_TEXT_BYTES:
            break
    cut = _cut(cut, length)
    missing = [name for name, value in whole.items() if cut[name] != value]
    return RunRecord.model_validate({**cut, "shortened": missing})


def _common_length(sizes: Sequence[int], room: int) -> int:
    """Return the length to which the longest texts are cut so that all of them fit."""
    left = room
    for number, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - number)
        if size > share:
            return max(0, share)
        left -= size
    return max(sizes, default=0)


def _limit_lists(value: Any, most: int) -> Any:
    """Limit the items of each list; of a mapping of numbers, keep the largest."""
    if isinstance(value, Mapping):
        limited = {name: _limit_lists(item, most) for name, item in value.items()}
        if len(limited) > most and all(isinstance(item, float) for item in limited.values()):
            limited = dict(sorted(limited.items(), key=lambda item: item[1])[-most:])
        return limited
    if isinstance(value, list):
        return [_limit_lists(item, most) for item in value[:most]]
    return value


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts that may be cut."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _NAMES:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, Mapping):
        return {name: item if name in _NAMES else _cut(item, length) for name, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, length) for item in value]
    return truncate_to_json_size(value, length) if isinstance(value, str) else value
