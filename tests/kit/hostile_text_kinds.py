"""The groups of hostile texts with which each public text function is tested."""

from collections.abc import Mapping
from typing import Final

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "poise.redis.passage_store": ("any", "unicode"),
    "poise.config.toml_lines": ("toml",),
    "poise.cli.dlq_view": ("json", "controls"),
    "poise.ingestion.document_files": ("titles",),
    "poise.cli.scores": ("headers",),
    "poise.cli.text": ("any", "controls"),
    "poise.contracts": ("headers", "json"),
    "poise.text.log_lines": ("controls",),
    "poise.text.markdown": ("titles",),
    "poise.dead_letters": ("headers",),
    "poise.kafka": ("headers",),
    "poise.rpc": ("headers",),
    "poise.worker": ("headers",),
    "poise.policy": ("toml",),
    "poise.resilience.retry_after": ("headers",),
    "poise.text.public_text": ("headers", "words"),
    "poise.scoring": ("any", "compared"),
    "poise.scoring.tokenization": ("any", "sentences", "words"),
    "poise.telemetry": ("headers",),
    "poise.text.unicode_forms": ("any", "unicode"),
    "poise_services.evaluation": ("any", "compared"),
    "text_functions": ("any",),
    "poise_services.gateway": ("headers",),
    "poise_labs": ("any", "headers"),
    "poise_services.inference": ("any", "json"),
    "poise_services.integration": ("headers", "json"),
    "poise_services.orchestration": ("any", "compared"),
    "poise_services.orchestration.canned": ("headers",),
    "poise_services.orchestration.cache_keys": ("any", "unicode"),
    "poise_services.retrieval": ("any", "titles"),
    "poise_services.retrieval.sparse": ("any", "words"),
    "poise_services.retrieval.passages": ("any",),
}
"""The groups of `hostile_texts` by the prefix of a function's name; the longest matching prefix applies."""


def kinds_of(name: str) -> tuple[str, ...]:
    """Return the groups of texts with which a function is tested."""
    return KINDS[max((known for known in KINDS if name.startswith(known)), key=len)]
