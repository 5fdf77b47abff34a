"""Fits the passages that were found into the size limit of the reply, best first. No clock, no I/O."""

from typing import Final

from poise.contracts import Passage, Passages
from poise.contracts.json_size import MAX_BYTES_PER_CHARACTER, json_size, truncate_to_json_size

MIN_SHORTENED_BYTES: Final = 500
"""Bytes of text that a shortened passage must have left to be useful."""
_OVERHEAD_BYTES: Final = 300
"""Upper bound of the bytes of a passage without its texts, and of the reply without its passages."""


def fit_to_size(found: Passages, room: int) -> Passages:
    """Return the reply within `room` bytes of JSON: the first passage that does not fit is shortened, the rest dropped.

    If anything is missing, `reason` says so.
    """
    if _max_size(found) <= room or len(found.encode()) <= room:
        return found
    left = room - len(found.model_copy(update={"passages": ()}).encode()) - _OVERHEAD_BYTES
    kept: list[Passage] = []
    shortened = False
    for passage in found.passages:
        size = len(passage.encode()) + 1  # and a comma
        if size > left:
            text = truncate_to_json_size(passage.text, left - size + json_size(passage.text))
            if shortened := json_size(text) >= MIN_SHORTENED_BYTES:
                kept.append(passage.model_copy(update={"text": text}))
            break
        kept.append(passage)
        left -= size
    why = f"only {len(kept)} of {len(found.passages)} passages fit into the reply"
    why += ", the last of them shortened" if shortened else ""
    reason = why if found.reason is None else f"{found.reason}; {why}"
    return found.model_copy(update={"passages": tuple(kept), "reason": reason, "mode": found.mode if kept else "none"})


def _max_size(found: Passages) -> int:
    """Return an upper bound of the reply's size from lengths alone; nearly all replies are far below the limit."""
    texts = sum(len(p.text) + len(p.source) + len(p.id) + len(p.heading or "") for p in found.passages)
    own = len(found.epoch) + len(found.reason or "")
    return (texts + own) * MAX_BYTES_PER_CHARACTER + _OVERHEAD_BYTES * (len(found.passages) + 1)
