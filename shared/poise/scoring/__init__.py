"""Scores of answers: pure functions of the question, the answer and its passages."""

from poise.scoring.degenerate import is_empty, is_looping, is_refusal, is_truncated
from poise.scoring.evidence import Evidence, EvidenceSentence
from poise.scoring.extraction import extract_sentences
from poise.scoring.groundedness import Groundedness, groundedness
from poise.scoring.quality import quality, quality_features
from poise.scoring.relevance import relevance
from poise.scoring.semantic import Embed, SemanticComparison, compare_by_meaning
from poise.scoring.summary import Estimate, VariantSummary, summarize_by_variant

__all__ = [
    "Embed",
    "Estimate",
    "Evidence",
    "EvidenceSentence",
    "Groundedness",
    "SemanticComparison",
    "VariantSummary",
    "compare_by_meaning",
    "extract_sentences",
    "groundedness",
    "is_empty",
    "is_looping",
    "is_refusal",
    "is_truncated",
    "quality",
    "quality_features",
    "relevance",
    "summarize_by_variant",
]
