"""Plain technical English: the turns that docs, docstrings, comments and messages must not use.

`python tests/kit/plain_language.py [PATH…]` prints each use, with the plain alternative; by default in all code.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("shared", "services", "labs", "tests")
"""The folders with Python code."""

BANNED: Final = MappingProxyType(
    {
        r"who(so)?ever|whomever": "the caller, any client that …",
        r"anew": "again, from the beginning",
        r"of one's own": "custom, own",
        r"(go|goes|going|gone|went) on without": "skips",
        r"bears?|bearing|bore|borne": "supports, applies, carries",
        r"so many(eth)?|manieth": "the number; n-th",
        r"of which": "a second sentence",
        r"what comes": "the message, the next …",
        r"who waits?": "the caller",
        r"as long as patience lasts": "up to max_wait",
        r"told": "receives, is notified, is configured",
        r"said of (it|them)|what is said": "the name of the thing",
        r"somebody else's|other people's": "third-party",
        r"(give|gives|gave|giving) up its place": "releases its slot",
        r"whatever it may be": "any",
        r"no one": "nobody, or name the subject",
        r"such as there is": "if any",
        r"begun again|begins again|begin again": "restarted, replayed",
        r"made again": "recreated",
        r"shuts? out|shutting out": "fences",
        r"set aside": "dead-lettered",
        r"left alone": "skipped",
        r"heed(s|ed|ing)?": "respects, observes",
        r"shall": "must",
        r"all the same": "anyway",
        r"but for|though it be": "except for",
        r"lest|hence|thereof|therein|wherein|whereof|hitherto|forthwith|ere": "so that … not; so",
        r"stands? in for|stood in for": "replaces",
        r"befalls?|befell": "happens to",
        r"is given away": "is reassigned",
        r"the like": "similar …",
    }
)
"""A turn, as a pattern of whole words in any case, and what to write instead."""

_PATTERNS: Final = [
    (re.compile(rf"\b(?:{turn})\b".replace(" ", r"\s+"), re.IGNORECASE), plain) for turn, plain in BANNED.items()
]
_CODE_SPAN: Final = re.compile(r"`[^`\n]*`")
_TEXT_TOKENS: Final = {
    tokenize.COMMENT,
    tokenize.STRING,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),  # Python 3.12: the text of an f-string
}
_BETWEEN_STATEMENTS: Final = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


class Finding(NamedTuple):
    """A banned turn, where it is used and what to write instead."""

    path: Path
    line: int
    found: str
    plain: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: “{self.found}”: write {self.plain}"


def banned_in_text(path: Path, text: str, first_line: int = 1) -> Iterator[Finding]:
    """Return the banned turns of a text. Code in backticks is skipped."""
    flat = _CODE_SPAN.sub(lambda code: "`" * len(code[0]), text)
    flat = re.sub(r"\n[ #*>]*", lambda gap: "\n".ljust(len(gap[0])), flat)  # a turn may be wrapped
    for pattern, plain in _PATTERNS:
        for match in pattern.finditer(flat):
            yield Finding(path, first_line + text.count("\n", 0, match.start()), " ".join(match[0].split()), plain)


def banned_in_page(path: Path) -> Iterator[Finding]:
    """Return the banned turns of a Markdown page, its generated parts included."""
    yield from banned_in_text(path, path.read_text(encoding="utf-8"))


def banned_in_code(path: Path) -> Iterator[Finding]:
    """Return the banned turns in the comments, docstrings and strings of a module.

    Strings of tests are data and are skipped, except those of benchmarks, which write pages.
    """
    data_allowed = path.is_relative_to(ROOT / "tests") and not path.is_relative_to(ROOT / "tests" / "benchmarks")
    statement = True  # whether the next token starts a statement
    block: list[str] = []  # successive comment lines, so that a wrapped turn is found
    start = 0
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != start + len(block):
                yield from banned_in_text(path, "\n".join(block), start)
                block = []
            start = start if block else token.start[0]
            block.append(token.string)
        elif token.type in _TEXT_TOKENS and (statement or not data_allowed):
            yield from banned_in_text(path, token.string, token.start[0])
        statement = token.type in _BETWEEN_STATEMENTS or (statement and token.type in {tokenize.NL, tokenize.COMMENT})
    yield from banned_in_text(path, "\n".join(block), start)


def python_files(*folders: str) -> Iterator[Path]:
    """Return the Python files of folders or the files themselves, given relative to the root."""
    for folder in folders:
        path = ROOT / folder
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


if __name__ == "__main__":
    for file in python_files(*(sys.argv[1:] or CODE)):
        if file != Path(__file__):
            sys.stdout.writelines(f"{finding}\n" for finding in banned_in_code(file))
