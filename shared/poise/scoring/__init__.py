"""Scores of answers: pure functions of the question, the answer and its passages."""

from poise.scoring.degenerate import empty, looping, refused, truncated
from poise.scoring.evidence import Evidence, Line
from poise.scoring.extraction import extract
from poise.scoring.groundedness import Groundedness, groundedness
from poise.scoring.meaning import Embed, Meant, meant
from poise.scoring.quality import features, quality
from poise.scoring.relevance import relevance
from poise.scoring.summary import Estimate, VariantSummary, summarise

__all__ = [
    "Embed",
    "Estimate",
    "Evidence",
    "Groundedness",
    "Line",
    "Meant",
    "VariantSummary",
    "empty",
    "extract",
    "features",
    "groundedness",
    "looping",
    "meant",
    "quality",
    "refused",
    "relevance",
    "summarise",
    "truncated",
]
