"""Canned texts: which fixed text is sent, by tenant and language."""

from collections.abc import Iterator, Sequence
from typing import Final

from poise_services.orchestration.settings import CannedText

MAX_TAG_LENGTH: Final = 35
"""Maximum length of a language tag, as in the contract of an ask (RFC 5646, section 4.4.1)."""


def choose_text(texts: Sequence[CannedText], tenant: str, language: str | None) -> str:
    """Return the most specific text: for tenant and language, for the tenant, for the language, for all.

    Raises:
        LookupError: There is no default text; the settings require one.
    """
    for text_tenant in (tenant, None):
        candidates = [text for text in texts if text.tenant == text_tenant]
        for tag in language_ranges(language):
            for text in candidates:
                if (text.language.lower() if text.language else None) == tag:
                    return text.text
    raise LookupError("there is no canned text without tenant and language")


def language_ranges(language: str | None) -> Iterator[str | None]:
    """Yield the language tags to look up, in lower case, best first, None last (RFC 4647, section 3.4).

    `zh-Hant-CN-x-private` yields itself, `zh-Hant-CN`, `zh-Hant` and `zh`: a single-letter subtag is removed with the
    subtag after it.
    """
    subtags = language[:MAX_TAG_LENGTH].lower().split("-") if language else []
    while subtags:
        yield "-".join(subtags)
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    yield None
