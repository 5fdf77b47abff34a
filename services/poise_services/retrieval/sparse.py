"""Lexical: texts as sparse vectors of their words, scored by BM25 (Robertson and Zaragoza, 2009).

The index weighs words by how rare they are, so of the usual stop words only those are left out that a question is made
of: in documentation, `is`, `in`, `not` and `with` are things that people ask about. So are signs such as `==` and `->`,
which a tokenizer of words drops: each is a word here.
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
"""Words of a usual passage."""


class SparseEncoder:
    """Makes sparse vectors of texts."""

    def __init__(self) -> None:
        self._bm25 = qdrant.Bm25(
            qdrant.Bm25Config(
                avg_len=_AVERAGE_LENGTH,
                stemmer=qdrant.SnowballParams(language=qdrant.SnowballLanguage.English),
                stopwords=qdrant.StopwordsSet(custom=set(_STOP_WORDS.split())),
            )
        )

    def encode_passage(self, text: str) -> qdrant.SparseVector:
        """A passage's words, each by how often it is said there."""
        return self._bm25.embed_document(_with_signs(text))

    def encode_query(self, text: str) -> qdrant.SparseVector:
        """A query's words; none are left of one that is made of question words alone."""
        return self._bm25.embed_query(_with_signs(text))


def _with_signs(text: str) -> str:
    """The text and, behind it, its signs spelt as words."""
    return " ".join((text, *(f"sign{sign.encode().hex()}" for sign in _SIGN.findall(text))))
