"""Shortening: a run's record within the room that its topic has, and what of it had to go. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_json

from poise.contracts import RunRecord
from poise.contracts.json_size import beginning_within, json_size
from poise.rpc.encoding import encode

LIST_LIMITS: Final = (1_000, 100, 10, 1)
"""Items that a list keeps: the first number with which its texts keep `MIN_TEXT_BYTES` bytes."""
MIN_TEXT_BYTES: Final = 500
"""Bytes of a text that still say something."""
_NAMES: Final = frozenset({"run_id", "tenant", "workflow", "id", "passage", "variant", "policy"})
"""Fields that something else is found by."""
_MARK: Final = 100
"""Bytes that the mark itself takes."""


def shorten(record: RunRecord, room: int) -> RunRecord:
    """A record within so many bytes of JSON: long lists are cut, then the longest texts, all to the same length.

    `shorten` names the fields that were.

    Raises:
        EncodingError: A field of it has no form in JSON.
    """
    if len(encode(record)) <= room:
        return record
    whole = record.model_dump(mode="json", exclude_none=True)
    cut, length = whole, 0
    for most in LIST_LIMITS:
        cut = _listed(whole, most)
        sizes = [json_size(text) for text in _texts(cut)]
        length = _common_length(sizes, room - _MARK - (len(to_json(cut, inf_nan_mode="null")) - sum(sizes)))
        if length >= MIN_TEXT_BYTES:
            break
    cut = _cut(cut, length)
    missing = [name for name, value in whole.items() if cut[name] != value]
    return RunRecord.model_validate({**cut, "shortened": missing})


def _common_length(sizes: Sequence[int], room: int) -> int:
    """The length to which the longest of the texts are cut so that all of them have room."""
    left = room
    for number, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - number)
        if size > share:
            return max(0, share)
        left -= size
    return max(sizes, default=0)


def _listed(value: Any, most: int) -> Any:
    """A tree whose lists have so many items at most; of numbers by name, those with the largest stay."""
    if isinstance(value, Mapping):
        kept = {name: _listed(item, most) for name, item in value.items()}
        if len(kept) > most and all(isinstance(item, float) for item in kept.values()):
            kept = dict(sorted(kept.items(), key=lambda item: item[1])[-most:])
        return kept
    if isinstance(value, list):
        return [_listed(item, most) for item in value[:most]]
    return value


def _texts(value: Any) -> Iterator[str]:
    """The texts that may be cut."""
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
    return beginning_within(value, length) if isinstance(value, str) else value
