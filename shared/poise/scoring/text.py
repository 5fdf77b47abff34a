"""Text as scoring sees it: sentences, words and their stems, and the facts that must not be made up."""

import re
from collections.abc import Iterator
from typing import Final

_HYPHEN_BREAK = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
_SPACES = re.compile(r"\s+")
_RULE = re.compile(r"^[ \t]*([*=\-~^#_+.`])\1{2,}[ \t]*$", re.MULTILINE)
_GRAMMAR = re.compile(r"^[^\n]*::=[^\n]*(?:\n[ \t]+[|(\[\"][^\n]*)*$", re.MULTILINE)
_BLOCKS = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[*•-]|\d{1,2}[.)])[ \t]+\S)")
_BULLET = re.compile(r"^\s*(?:[*•-]|\d{1,2}[.)]|#{1,6})\s+")
_END = re.compile(r"(?<=[.!?])[\"'”’)\]*_`]*\s+(?=[\"'“‘(\[*_`]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|resp|approx|Mr|Mrs|Ms|Dr|Prof|No|Fig|Sec|St)|\b[A-Z])\.$")

_WORD = re.compile(r"__\w+__|[^\W\d_]\w*(?:['’][a-z]+)?|\d+(?:\.\d+)*")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*(?![\w])")
_CODE = re.compile(
    r"\b\w+(?:\.\w+)+\b|\b\w*_\w+\b|\b\w+(?=\(\))|\b[A-Z]?[a-z]+[A-Z]\w*\b|\b[A-Z]{2,}\w*\b|(?<=`)[^`\s]+(?=`)"
)
_NAME = re.compile(r"(?<=[a-z0-9,;:)\"'”’] )[\"'“‘(]*([A-Z][a-z]+)\b")

STOPWORDS: Final = frozenset(
    ["a", "about", "above", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "done", "down", "during", "each", "either", "else", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "just", "may", "me", "might", "more", "most", "must", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "one", "only", "or", "other", "our", "out", "over", "own", "same", "shall", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "until", "up", "upon", "us", "very", "was", "way", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "within", "would", "you", "your"]
)
NEGATIONS: Final = frozenset(["no", "not", "never", "none", "neither", "nor", "cannot", "without", "nothing", "n't"])


def flat(text: str) -> str:
    """The text on one line: white space is one space, a word broken at a hyphen is whole again."""
    return _SPACES.sub(" ", _HYPHEN_BREAK.sub("-", text)).strip()


def prose(text: str) -> str:
    """The text without what is not prose: rules under headings, grammar productions."""
    return _RULE.sub("", _GRAMMAR.sub("", text))


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line.

    A blank line, a list item and a heading end a sentence too. Splitting is by rule (a full stop, question or exclamation
    mark before white space and a capital, digit or quote; a short list of abbreviations excepted), as in Grefenstette and
    Tapanainen, "What is a word, what is a sentence?" (1994); a trained splitter (Kiss and Strunk's Punkt, 2006) gains
    little on well-edited text.
    """
    return [sentence for block in _BLOCKS.split(prose(text)) for sentence in _of_block(flat(_BULLET.sub("", block)))]


def _of_block(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        piece = block[start : end.start()]
        if _ABBREVIATION.search(piece):
            continue
        whole = block[start : end.end()].strip()
        start = end.end()
        if whole:
            yield whole
    if rest := block[start:].strip():
        yield rest


def words(text: str) -> list[str]:
    """The words and numbers of a text in order, lower case, dunder names whole."""
    return [word.lower() for word in _WORD.findall(text)]


def stem(word: str) -> str:
    """A word without its inflection (Harman's S-stemmer, 1991, plus -ed, -ing and a final e)."""
    if len(word) <= 3 or word[0] == "_" or word[0].isdigit():  # noqa: PLR2004 - too short to be inflected
        return word
    for suffix, put in (
        ("'s", ""),
        ("’s", ""),
        ("ies", "y"),
        ("sses", "ss"),
        ("ing", ""),
        ("ied", "y"),
        ("ed", ""),
        ("es", ""),
        ("s", ""),
    ):
        if (
            word.endswith(suffix)
            and len(word) - len(suffix) >= 3
            and not word.endswith(("ss", "us", "is") if suffix == "s" else ())
        ):
            word = word[: -len(suffix)] + put
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word  # noqa: PLR2004


def stems(text: str) -> list[str]:
    """The stems of a text's content words, in order: function words left out."""
    return [stem(word) for word in words(text) if word not in STOPWORDS]


def facts(text: str) -> list[str]:
    """What a text claims by name: numbers, identifiers of code, capitalised names not at the start of a sentence.

    These are where invented text shows first (the entities and numbers of Nan et al., "Entity-level Factual Consistency",
    2021).
    """
    found = [*_NUMBER.findall(text), *_CODE.findall(text), *_NAME.findall(text)]
    return list(dict.fromkeys(found))


def negated(text: str) -> bool:
    """Whether a text says no an odd number of times."""
    return sum(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in words(text)) % 2 == 1
