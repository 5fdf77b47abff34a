"""Tokenization for scoring: sentences, words, stems and checkable facts of a text. Pure."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Final, Protocol, TypeVar, cast

ResultT = TypeVar("ResultT")
ParsedT_co = TypeVar("ParsedT_co", covariant=True)


class CachedTextFunction(Protocol[ParsedT_co]):
    """A cached function of a text."""

    def __call__(self, text: str, /) -> ParsedT_co: ...

    def cache_clear(self) -> None:
        """Clear the cache."""


_HYPHEN_BREAK = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
_SPACES = re.compile(r"\s+")
_RULE = re.compile(r"^[ \t]*+(?:([*=\-~^#_+.`])\1{2,}+[ \t]*+|\|[ \t:|-]++)$", re.MULTILINE)
_GRAMMAR = re.compile(r"^[^\n]*::=[^\n]*(?:\n[ \t]+[|(\[\"][^\n]*)*$", re.MULTILINE)
_BLOCKS = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:(?:[*•-]|\d{1,2}[.)])[ \t]+\S|\|))")
_BULLET = re.compile(r"^\s*(?:[*•-]|\d{1,2}[.)]|#{1,6})\s+")
_END = re.compile(r"[.!?][\"'”’)\]*_`]*(\s+)(?=[\"'“‘(\[*_`]*[A-Z0-9])")
_ABBREVIATION: Final = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|resp|approx|Mr|Mrs|Ms|Dr|Prof|No|Fig|Sec|St|[A-Z])\.$")
_LONGEST_ABBREVIATION: Final = len("approx.")

_WORD = re.compile(r"__\w{1,96}__|[^\W\d_]\w{0,99}(?:['’][a-z]{1,99})?|\d{1,99}(?:\.\d{1,99}){0,9}")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*(?!\w)")
_CODE = re.compile(
    r"(?<=`)[^`\s]+(?=`)"  # between backticks
    r"|\b[^\W\d]\w*(?:\.[^\W\d]\w*)+"  # dotted
    r"|\b[^\W_]+_\w+|\b_+\w+"  # with an underscore
    r"|\b\w+(?=\(\))"  # called
    r"|\b[A-Z]?[a-z]+[A-Z]\w*\b|\b[A-Z][A-Z0-9]+\b"  # with capitals inside
)
_NAME = re.compile(r"(?<=[a-z0-9,;:)\"”’] )[\"'“‘(]?([A-Z][a-z]+)\b")
_LATIN: Final = frozenset({"e.g", "i.e"})

_QUESTION_WORDS: Final = """
    a an the of to do does did done what which how when where who whose whom why this that these those there here it
    its i me my you your we us our he she his her they them their can could should would may might will shall am are
    was were be been being have has had having please and as by also so than then such
"""
STOPWORDS: Final = frozenset(_QUESTION_WORDS.split())
"""Words common in questions. `is`, `in`, `not`, `or` and `with` are not included: users ask about them."""
NEGATIONS: Final = frozenset({"no", "not", "never", "none", "neither", "nor", "cannot", "without", "nothing"})
_MIN_STEM_CHARS: Final = 3
_CACHE_SIZE: Final = 256
"""Texts in the caches: each score of an answer parses the same answer and question."""
_MAX_CACHED_CHARS: Final = 4_000
"""Maximum characters of a cached text."""
MAX_SENTENCE_CHARS: Final = 2_000
"""A longer sentence is split at a space, because sentences are compared word by word."""
_MAX_CACHED_WORD_CHARS: Final = 100
"""Maximum characters of a cached word."""
_SUFFIXES: Final = (
    ("'s", ""),
    ("’s", ""),
    ("sses", "ss"),
    ("ies", "y"),
    ("ied", "y"),
    ("ing", ""),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
)


def cached_by_text(number: int, longest: int) -> Callable[[Callable[[str], ResultT]], CachedTextFunction[ResultT]]:
    """Cache a function of a text, as `lru_cache` does, except for texts of more than `longest` characters."""

    def decorated(function: Callable[[str], ResultT]) -> CachedTextFunction[ResultT]:
        cached = lru_cache(number)(function)

        @wraps(function)
        def called(text: str) -> ResultT:
            return cached(text) if len(text) <= longest else function(text)

        called.cache_clear = cached.cache_clear  # type: ignore[attr-defined]  # a CachedTextFunction has it
        return cast("CachedTextFunction[ResultT]", called)

    return decorated


def collapse_whitespace(text: str) -> str:
    """Return a text on one line: white space becomes one space, and words broken at a hyphen are joined."""
    return _SPACES.sub(" ", _HYPHEN_BREAK.sub("-", text)).strip()


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a text, each on one line, without grammar productions and heading underlines.

    Blank lines and list items also end a sentence. Splitting is rule-based (a full stop, question or exclamation mark
    before white space and a capital, digit or quote, except for some abbreviations), as in Grefenstette and Tapanainen,
    "What is a word, what is a sentence?" (1994); a trained splitter gains little on edited text.
    """
    prose = _RULE.sub("", _GRAMMAR.sub("", text))
    blocks = [collapse_whitespace(_BULLET.sub("", block)) for block in _BLOCKS.split(prose)]
    return tuple([part for block in blocks for sentence in _split_block(block) for part in _cut_long(sentence)])


def _split_block(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        stop = end.start(1)
        if not _ABBREVIATION.search(block, max(start, stop - _LONGEST_ABBREVIATION), stop):
            yield block[start:stop]
            start = end.end()
    if start < len(block):
        yield block[start:]


def _cut_long(sentence: str) -> Iterator[str]:
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARS:
        space = sentence.rfind(" ", start, start + MAX_SENTENCE_CHARS)
        stop = space if space > start else start + MAX_SENTENCE_CHARS
        yield sentence[start:stop]
        start = stop + (space > start)
    yield sentence[start:]


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def words(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in order, in lower case; dunder names are not split."""
    return tuple([word.lower() for word in _WORD.findall(text)])


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return the stem of a word: Harman's S-stemmer ("How effective is suffixing?", 1991), plus -ed, -ing, -e."""
    if len(word) <= _MIN_STEM_CHARS or not word[0].isalpha():
        return word
    for suffix, put in _SUFFIXES:
        if word.endswith(suffix):
            if len(word) - len(suffix) >= _MIN_STEM_CHARS and not word.endswith(("ss", "us", "is")):
                word = word[: -len(suffix)] + put
            break
    return word[:-1] if word.endswith("e") and len(word) > _MIN_STEM_CHARS else word


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def stems(text: str) -> tuple[str, ...]:
    """Return the stems of a text's words in order, without stop words."""
    return tuple([stem(word) for word in words(text) if word not in STOPWORDS])


def checkable_facts(text: str) -> list[str]:
    """Return the distinct numbers, code identifiers and capitalized names inside the sentences of a text.

    Made-up text shows in entities and numbers first: Nan et al., "Entity-level Factual Consistency of Abstractive Text
    Summarization" (2021).
    """
    codes = [
        code  # an identifier never contains white space
        for word in text.split()
        for code in (_code_identifiers(word) if len(word) <= _MAX_CACHED_WORD_CHARS else _CODE.findall(word))
    ]
    found = [*_NUMBER.findall(text), *codes, *_NAME.findall(text)]
    return [fact for fact in dict.fromkeys(found) if fact not in _LATIN]


@lru_cache(maxsize=65_536)
def _code_identifiers(word: str) -> tuple[str, ...]:
    """Return the code identifiers in a text without spaces."""
    return tuple(_CODE.findall(word))


def is_negated(text: str) -> bool:
    """Return whether a text has an odd number of negations."""
    return sum(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in words(text)) % 2 == 1
