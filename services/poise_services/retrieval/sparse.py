"""Sparse vectors of texts for BM25 (Robertson and Zaragoza, 2009).

The index weighs terms by rarity (IDF), so only the words that questions consist of are stop words: in documentation,
people ask about `is`, `in`, `not` and `with`. They also ask about operators such as `==` and `->`, which word
tokenizers drop: each is a term here.
"""

import re
from typing import Final

import qdrant_edge as qdrant

_STOP_WORDS: Final = """
    a an the of to do does did what which how when where who whose whom why this that these those there here it its
    i me my you your we us our they them their can could should would may might will shall am are was were be been being
    have has had please
"""
_SIGN: Final = re.compile(r"(?<![=<>!+*/%&|^~@:.-])[=<>!+*/%&|^~@:.-]{2,3}(?![=<>!+*/%&|^~@:.-])")
_AVERAGE_LENGTH: Final = 100.0
"""Words of an average passage."""


class SparseEncoder:
    """Encodes texts as sparse vectors."""

    def __init__(self) -> None:
        self._bm25 = qdrant.Bm25(
            qdrant.Bm25Config(
                avg_len=_AVERAGE_LENGTH,
                stemmer=qdrant.SnowballParams(language=qdrant.SnowballLanguage.English),
                stopwords=qdrant.StopwordsSet(custom=set(_STOP_WORDS.split())),
            )
        )

    def encode_passage(self, text: str) -> qdrant.SparseVector:
        """Return a passage's terms with their frequencies."""
        return self._bm25.embed_document(_with_signs(text))

    def encode_query(self, text: str) -> qdrant.SparseVector:
        """Return a query's terms; empty if the query has only stop words."""
        return self._bm25.embed_query(_with_signs(text))


def _with_signs(text: str) -> str:
    """Return the text with its operators appended as words."""
    return " ".join((text, *(f"sign{sign.encode().hex()}" for sign in _SIGN.findall(text))))
