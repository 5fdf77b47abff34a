"""Text as scoring sees it: sentences, words and their stems, and the facts that must not be made up. Pure."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Final, Protocol, TypeVar, cast

ResultT = TypeVar("ResultT")
ParsedT_co = TypeVar("ParsedT_co", covariant=True)


class CachedTextFunction(Protocol[ParsedT_co]):
    """A function of a text that remembers what it returned."""

    def __call__(self, text: str, /) -> ParsedT_co: ...

    def cache_clear(self) -> None:
        """Forget it all."""


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
"""What questions are made of. `is`, `in`, `not`, `or`, `with` are left in: documentation is asked about them."""
NEGATIONS: Final = frozenset({"no", "not", "never", "none", "neither", "nor", "cannot", "without", "nothing"})
_MIN_STEM_CHARS: Final = 3
_CACHE_SIZE: Final = 256
"""Texts whose sentences, words and stems are kept: each score of an answer reads the same answer and question."""
_MAX_CACHED_CHARS: Final = 4_000
"""Characters of such a text."""
MAX_SENTENCE_CHARS: Final = 2_000
"""Characters; one that goes on is cut at a space, for sentences are compared word by word."""
_MAX_CACHED_WORD_CHARS: Final = 100
"""Characters of what stands between spaces and is remembered."""
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
    """Remember what a function of a text returns, as `lru_cache` does, unless the text is longer than that."""

    def decorated(function: Callable[[str], ResultT]) -> CachedTextFunction[ResultT]:
        kept = lru_cache(number)(function)

        @wraps(function)
        def called(text: str) -> ResultT:
            return kept(text) if len(text) <= longest else function(text)

        called.cache_clear = kept.cache_clear  # type: ignore[attr-defined]  # what a Remembered has beside the call
        return cast("CachedTextFunction[ResultT]", called)

    return decorated


def collapse_whitespace(text: str) -> str:
    """The text on one line: white space is one space, a word broken at its hyphen is whole again."""
    return _SPACES.sub(" ", _HYPHEN_BREAK.sub("-", text)).strip()


@cached_by_text(_CACHE_SIZE, _MAX_CACHED_CHARS)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text, each on one line; grammar productions and the lines that draw a heading are left out.

    A blank line and a list item end a sentence too. Splitting is by rule (a full stop, question or exclamation mark
    before white space and a capital, digit or quote, some abbreviations excepted), as in Grefenstette and Tapanainen,
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
    """The words and numbers of a text in order, lower case, dunder names whole."""
    return tuple([word.lower() for word in _WORD.findall(text)])


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A word without its inflection: Harman's S-stemmer ("How effective is suffixing?", 1991), -ed, -ing, a final e."""
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
    """The stems of a text's words in order, those that questions are made of left out."""
    return tuple([stem(word) for word in words(text) if word not in STOPWORDS])


def checkable_facts(text: str) -> list[str]:
    """What a text says by name: numbers, identifiers of code, capitalised names inside a sentence; each once.

    This is where made-up text shows first: entities and numbers, as in Nan et al., "Entity-level Factual Consistency of
    Abstractive Text Summarization" (2021).
    """
    codes = [
        code  # none of them has white space in or beside it
        for word in text.split()
        for code in (_code_identifiers(word) if len(word) <= _MAX_CACHED_WORD_CHARS else _CODE.findall(word))
    ]
    found = [*_NUMBER.findall(text), *codes, *_NAME.findall(text)]
    return [fact for fact in dict.fromkeys(found) if fact not in _LATIN]


@lru_cache(maxsize=65_536)
def _code_identifiers(word: str) -> tuple[str, ...]:
    """The identifiers of code in what stands between two spaces."""
    return tuple(_CODE.findall(word))


def is_negated(text: str) -> bool:
    """Whether a text says no an odd number of times."""
    return sum(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in words(text)) % 2 == 1
