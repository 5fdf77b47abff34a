"""Degenerate output: empty, looping, truncated, or a refusal."""

import re
import zlib
from collections import Counter
from typing import Final

from poise.scoring.tokenization import words

_NGRAM_WORDS: Final = 4
_MIN_REPEATS: Final = 3
_MIN_COMPRESSED_BYTES: Final = 200
_MAX_COMPRESSION_RATIO: Final = 0.3
_REFUSAL: Final = re.compile(
    r"\bas an ai\b|\bi(?: am|'m|’m) (?:sorry|unable|not able)\b|\bi (?:apologi[sz]e|do not know|don['’]t know)\b"
    r"|\bi (?:cannot|can ?not|can['’]t) (?:answer|assist|help|provide|say|tell|find|comply|fulfil)"
    r"|\b(?:text|passages?|context|documents?)(?: above)? (?:do(?:es)? not|don['’]t|doesn['’]t)"
    r" (?:contain|mention|provide|say|specify|state|answer|give)",
    re.IGNORECASE,
)


def is_empty(answer: str) -> bool:
    """Return whether an answer has no words."""
    return not words(answer)


def is_looping(answer: str) -> bool:
    """Return whether an answer repeats itself.

    It contains the same four words three times (repeated n-grams, as in Holtzman et al., "The Curious Case of Neural
    Text Degeneration", 2020), or compresses to less than 30 %, as in Whisper's decoder (Radford et al., 2022).
    """
    found = words(answer)
    grams = list(zip(*(found[start:] for start in range(_NGRAM_WORDS)), strict=False))
    repeats = len(grams) - len(set(grams))
    if repeats >= _MIN_REPEATS - 1 and max(Counter(grams).values()) >= _MIN_REPEATS:
        return True
    raw = answer.encode()
    return len(raw) >= _MIN_COMPRESSED_BYTES and len(zlib.compress(raw)) / len(raw) < _MAX_COMPRESSION_RATIO


def is_truncated(answer: str, finish_reason: str | None) -> bool:
    """Return whether an answer was truncated: its finish reason is `length`, and it does not end like a sentence."""
    return finish_reason == "length" and not answer.rstrip().endswith((".", "!", "?", '"', "”", ")"))


def is_refusal(answer: str) -> bool:
    """Return whether an answer is a refusal.

    Refusals are recognized by their wording, as in Zou et al., "Universal and Transferable Adversarial Attacks on
    Aligned Language Models" (2023), and by phrases for passages that do not contain the answer.
    """
    return bool(_REFUSAL.search(answer))
