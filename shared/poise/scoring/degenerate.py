"""Degenerate output: empty, looping, cut off, a refusal."""

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
    """Whether there is no word in it."""
    return not words(answer)


def is_looping(answer: str) -> bool:
    """Whether it goes round in circles.

    Four words that stand three times (repeated n-grams, as in Holtzman et al., "The Curious Case of Neural Text
    Degeneration", 2020), or a text that compresses to less than a third, as Whisper's decoder tests it (Radford et al.,
    2022).
    """
    found = words(answer)
    grams = list(zip(*(found[start:] for start in range(_NGRAM_WORDS)), strict=False))
    again = len(grams) - len(set(grams))
    if again >= _MIN_REPEATS - 1 and max(Counter(grams).values()) >= _MIN_REPEATS:
        return True
    raw = answer.encode()
    return len(raw) >= _MIN_COMPRESSED_BYTES and len(zlib.compress(raw)) / len(raw) < _MAX_COMPRESSION_RATIO


def is_truncated(answer: str, finish_reason: str | None) -> bool:
    """Whether the model was cut off: it says so, and the text does not end like a sentence."""
    return finish_reason == "length" and not answer.rstrip().endswith((".", "!", "?", '"', "”", ")"))


def is_refusal(answer: str) -> bool:
    """Whether it declines to answer.

    By its wording, as in Zou et al., "Universal and Transferable Adversarial Attacks on Aligned Language Models"
    (2023), and by what models say of passages that do not tell.
    """
    return bool(_REFUSAL.search(answer))
