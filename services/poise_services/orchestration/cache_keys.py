"""Cache keys: which asks are identical, so that they share an answer."""

import hashlib
from typing import Final

from poise.contracts import Retrieve
from poise.redis.answer_store import hash_key_parts
from poise.text.unicode_forms import nfkc
from poise_services.orchestration.prompt import TEMPLATE
from poise_services.orchestration.settings import OrchestrationSettings, Variant

ANSWER_CACHE_VERSION: Final = 1
"""Increase it when the built-in workflow answers differently: answers cached before are no longer found."""
PROMPT_VERSION: Final = hashlib.sha256(TEMPLATE.encode()).hexdigest()[:16]
_EXCLUDED_FIELDS: Final = {"weight", "input_token_price", "output_token_price"}
"""Settings of a variant that do not affect its answers, and are not part of the key."""


def normalize_question(question: str) -> str:
    """Normalize what does not change the meaning of a question.

    Unicode compatibility forms (NFKC), case (folded) and white space. Also remove one question mark at the end if it
    follows a letter or digit, because people omit it. Other punctuation stays, because the question may be about it:
    "What does ** do", "What is C#", "What is `...`".
    """
    text = " ".join(nfkc(nfkc(question).casefold()).split())
    if text.endswith("?") and text[:-1].rstrip()[-1:].isalnum():
        return text[:-1].rstrip()
    return text


def answer_key(tenant: str, workflow: str, question: str, variant: Variant, settings: OrchestrationSettings) -> str:
    """Return the key of the answer that a variant's cache group gives to a question.

    The key has the settings of all members of the group, so they stop sharing answers when one of them changes. The
    reader's language is not part of it: it only selects canned texts, which are not stored. Nor is the conversation: it
    only orders asks.
    """
    retrieve = Retrieve(query="-", limit=settings.top_k).model_dump(mode="json", exclude={"query"})
    members = [
        member.model_dump(mode="json", exclude=_EXCLUDED_FIELDS) for member in cache_group_members(variant, settings)
    ]
    ladder = settings.ladder
    return hash_key_parts(
        {
            "tenant": tenant,
            "workflow": [workflow, ANSWER_CACHE_VERSION],
            "question": normalize_question(question),
            "cache_group": sorted(members, key=repr),
            "prompt": PROMPT_VERSION,
            "retrieve": retrieve,
            "integrations": sorted(settings.integrations),
            "check": [ladder.min_groundedness, ladder.min_relevance],
        }
    )


def cache_group_members(variant: Variant, settings: OrchestrationSettings) -> list[Variant]:
    """Return the variants that share answers with a variant; only itself if it has no cache group."""
    if variant.cache_group is None:
        return [variant]
    return [other for other in settings.variants if other.cache_group == variant.cache_group]


def document_id(passage: str) -> str:
    """Return the id of a passage's document."""
    return passage.rpartition("#")[0]
