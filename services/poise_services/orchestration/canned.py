"""Canned: which fixed text a reader gets, by tenant and language."""

from collections.abc import Iterator, Sequence
from typing import Final

from poise_services.orchestration.settings import CannedText

MAX_TAG_LENGTH: Final = 35
"""Characters of a tag, as the contract of an ask has it (RFC 5646, section 4.4.1)."""


def choose_text(texts: Sequence[CannedText], tenant: str, language: str | None) -> str:
    """The most particular text: for tenant and language, for the tenant, for the language, for everyone.

    Raises:
        LookupError: None is for everyone; the settings refuse that.
    """
    for whose in (tenant, None):
        own = [text for text in texts if text.tenant == whose]
        for tag in language_ranges(language):
            for text in own:
                if (text.language.lower() if text.language else None) == tag:
                    return text.text
    raise LookupError("no canned text is for every tenant and language")


def language_ranges(language: str | None) -> Iterator[str | None]:
    """The tags that serve a reader, in lower case, best first, None last (RFC 4647, section 3.4).

    `zh-Hant-CN-x-private` is served by itself, `zh-Hant-CN`, `zh-Hant` and `zh`: a subtag of one letter goes with the
    one behind it.
    """
    subtags = language[:MAX_TAG_LENGTH].lower().split("-") if language else []
    while subtags:
        yield "-".join(subtags)
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    yield None
