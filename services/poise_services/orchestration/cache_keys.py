"""Keys: what makes two asks the same, so that the answer to one is the answer to the other."""

import hashlib
from typing import Final

from poise.contracts import Retrieve
from poise.redis.answer_store import key_of
from poise.text.unicode_forms import nfkc
from poise_services.orchestration.prompt import TEMPLATE
from poise_services.orchestration.settings import OrchestrationSettings, Variant

WORKFLOW_VERSION: Final = 1
"""Of the answer workflow: raise it when it answers otherwise, and what was kept before is not found any more."""
PROMPT_VERSION: Final = hashlib.sha256(TEMPLATE.encode()).hexdigest()[:16]
_SAYS_THE_SAME: Final = {"weight", "price_in", "price_out"}
"""Settings of a variant that make no difference to what it answers."""


def normalize_question(question: str) -> str:
    """A question without what makes no difference to what is asked.

    Unicode's compatibility forms (NFKC), case (folded), and white space. Beyond that, one question mark at the end, if
    it follows a letter or digit: people leave it away. Other punctuation stays, for it may be what is asked about:
    "What does ** do", "What is C#", "What is `...`".
    """
    text = " ".join(nfkc(nfkc(question).casefold()).split())
    if text.endswith("?") and text[:-1].rstrip()[-1:].isalnum():
        return text[:-1].rstrip()
    return text


def answer_key(tenant: str, workflow: str, question: str, variant: Variant, settings: OrchestrationSettings) -> str:
    """The key of the answer that a variant's family gives to a question.

    Of a family all members count, whoever of them is drawn: they answer for one another, until one is configured
    otherwise. The reader's language is not among the parts: it decides on canned texts alone, which are not kept.
    Nor is the conversation: it orders asks, and is not read.
    """
    retrieve = Retrieve(query="-", limit=settings.passages).model_dump(mode="json", exclude={"query"})
    ladder = settings.ladder
    return key_of(
        {
            "tenant": tenant,
            "workflow": [workflow, WORKFLOW_VERSION],
            "question": normalize_question(question),
            "family": sorted(
                ([one.model_dump(mode="json", exclude=_SAYS_THE_SAME) for one in family_members(variant, settings)]),
                key=repr,
            ),
            "prompt": PROMPT_VERSION,
            "retrieve": retrieve,
            "integrations": sorted(settings.integrations),
            "check": [ladder.grounded, ladder.relevant],
        }
    )


def family_members(variant: Variant, settings: OrchestrationSettings) -> list[Variant]:
    """The variants that answer for one another with this one; itself alone if it has no family."""
    if variant.family is None:
        return [variant]
    return [one for one in settings.variants if one.family == variant.family]


def document_id(passage: str) -> str:
    """The document of a passage, by the passage's id."""
    return passage.rpartition("#")[0]
