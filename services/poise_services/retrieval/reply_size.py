"""Fits the passages into the size limit of the reply, best first. No clock, no I/O."""

from typing import Final

from poise.contracts import Passage, Passages
from poise.contracts.json_size import MAX_BYTES_PER_CHARACTER, json_size, truncate_to_json_size

MIN_SHORTENED_BYTES: Final = 500
"""Bytes of text that a shortened passage must have left to be useful."""
_OVERHEAD_BYTES: Final = 300
"""Upper bound of the bytes of a passage without its texts, and of the reply without its passages."""


def fit_to_size(reply: Passages, max_bytes: int) -> Passages:
    """Return the reply in at most `max_bytes` of JSON: shorten the first passage that does not fit, and drop the rest.

    If anything is missing, the reply's `reason` says so.
    """
    if _max_size(reply) <= max_bytes or len(reply.encode()) <= max_bytes:
        return reply
    remaining = max_bytes - len(reply.model_copy(update={"passages": ()}).encode()) - _OVERHEAD_BYTES
    fitting: list[Passage] = []
    shortened = False
    for passage in reply.passages:
        size = len(passage.encode()) + 1  # and a comma
        if size > remaining:
            text = truncate_to_json_size(passage.text, remaining - size + json_size(passage.text))
            if shortened := json_size(text) >= MIN_SHORTENED_BYTES:
                fitting.append(passage.model_copy(update={"text": text}))
            break
        fitting.append(passage)
        remaining -= size
    note = f"only {len(fitting)} of {len(reply.passages)} passages fit into the reply"
    note += ", the last of them shortened" if shortened else ""
    reason = note if reply.reason is None else f"{reply.reason}; {note}"
    return reply.model_copy(
        update={"passages": tuple(fitting), "reason": reason, "mode": reply.mode if fitting else "none"}
    )


def _max_size(reply: Passages) -> int:
    """Return an upper bound of the reply's size from lengths alone; nearly all replies are far below the limit."""
    texts = sum(len(p.text) + len(p.source) + len(p.id) + len(p.heading or "") for p in reply.passages)
    other_texts = len(reply.epoch) + len(reply.reason or "")
    return (texts + other_texts) * MAX_BYTES_PER_CHARACTER + _OVERHEAD_BYTES * (len(reply.passages) + 1)
