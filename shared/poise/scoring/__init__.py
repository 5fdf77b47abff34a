"""Scores of answers: pure functions of the question, the answer and its passages."""

from poise.scoring.degenerate import empty, looping, refused, truncated
from poise.scoring.evidence import Evidence, Line
from poise.scoring.extraction import extract
from poise.scoring.groundedness import Groundedness, groundedness
from poise.scoring.quality import quality
from poise.scoring.relevance import relevance
from poise.scoring.summary import Estimate, VariantSummary, summarise

__all__ = [
    "Estimate",
    "Evidence",
    "Groundedness",
    "Line",
    "VariantSummary",
    "empty",
    "extract",
    "groundedness",
    "looping",
    "quality",
    "refused",
    "relevance",
    "summarise",
    "truncated",
]
