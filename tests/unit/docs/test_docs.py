"""Paths, functions, commands and links of the pages exist, and the tables of docs/WIRE.md match the code."""

import ast
import json
import re
import runpy
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import typer.main
from source_tree import source_files

import poise
from poise.cli.app import COMMANDS, app
from poise.contracts import Deletion, Message
from poise.contracts.headers import (
    DEAD_LETTER_HEADERS,
    MARKER_HEADERS,
    MESSAGE_HEADERS,
    MOVED_HEADERS,
    ORIGIN,
    RETRY_HEADERS,
)
from poise.contracts.topics import CATALOGUE, DAY, HOUR, NO_DEADLINE, Deadlines, Topic
from poise.errors import PoiseError, SetupError
from poise.kafka.asyncapi_document import body_schemas
from poise.kafka.partitioner import partition_for

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
WIRE = (ROOT / "docs" / "WIRE.md").read_text(encoding="utf-8")
GOLDEN: list[tuple[str, Message, str]] = runpy.run_path(str(ROOT / "tests" / "contract" / "test_wire.py"))["GOLDEN"]

CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|ya?ml|svg|lock)|(?:[\w.-]+/)+|Makefile|NOTICE)(?::([\w.]+))?")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(#[^)\s]*)?\)|(?:src|srcset|href)=\"(?!https?:)([^\"]+)\"")
LOCAL_PATH = re.compile(r"(?<![\w.:])/(?:home|root|tmp|work|Users|usr|var|opt|mnt|private)/")
COMMAND = re.compile(r"^(?:\$ )?((?:\.venv/bin/)?(?:poise|make)\b.*)$")
CREATED = {"translation.py", "hello.py", "greetings.py", "brief.py", ".poise/"}
"""Files that the reader or the stack creates."""


class Mention(NamedTuple):
    """A code span or command of a page, and its position."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def mentions() -> Iterator[Mention]:
    """Yield the code spans of all pages, and each command in a block of shell."""
    for page in PAGES:
        fence: str | None = None
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("```"):
                fence = line.removeprefix("```") if fence is None else None
            elif fence is None:
                yield from (Mention(page, number, code) for code in CODE.findall(line))
            elif fence in {"sh", "console"} and (command := COMMAND.match(line)):
                yield Mention(page, number, command[1])


MENTIONS = list(mentions())


# -- references exist --------------------------------------------------------------------------------------------------

PATHS = [mention for mention in MENTIONS if PATH.fullmatch(mention.text) and mention.text not in CREATED]


def test_pages_name_paths() -> None:
    assert len(PATHS) > 30


@pytest.mark.parametrize("mention", PATHS, ids=str)
def test_a_path_and_its_function_exist(mention: Mention) -> None:
    found = PATH.fullmatch(mention.text)
    assert found is not None
    path = ROOT / found[1]
    assert path.exists(), f"{mention}: there is no such file"
    if found[2]:
        assert found[2] in names_of(path), f"{mention}: there is no such name in it"


@cache
def names_of(path: Path) -> frozenset[str]:
    """Return the functions, classes, methods (`Class.method`) and constants of a module."""
    return frozenset(_names(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _names(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor, source in LINK.findall(text):
        path = page.parent / (target or source) if target or source else page
        assert path.exists(), f"{page.name}: {target or source}"
        if anchor:
            assert anchor[1:] in anchors(path), f"{page.name}: {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


POISE = [mention for mention in MENTIONS if re.match(r"(\.venv/bin/)?poise( |$)", mention.text)]
MAKE = [mention for mention in MENTIONS if re.match(r"make( |$)", mention.text)]


def test_pages_name_commands() -> None:
    assert len(POISE) > 10
    assert {"make demo", "make test"} <= {mention.text for mention in MAKE}


@pytest.mark.parametrize("mention", POISE, ids=str)
def test_a_command_of_poise_and_its_options_exist(mention: Mention) -> None:
    words = re.sub(r'"[^"]*"', "TEXT", mention.text.split("#")[0]).split()[1:]
    command: Any = typer.main.get_command(app)
    context = command.make_context("poise", [], resilient_parsing=True)
    if not words or words[0] == "…":
        return
    assert words[0] in COMMANDS, str(mention)
    _, command, rest = command.resolve_command(context, words)
    if hasattr(command, "commands"):
        assert rest, f"{mention}: names no command of the group"
        assert rest[0] in command.commands, str(mention)
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)} <= known, str(mention)


@pytest.mark.parametrize("mention", MAKE, ids=str)
def test_a_target_of_make_exists(mention: Mention) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [word for word in mention.text.split()[1:] if "=" not in word]
    assert set(named) <= set(targets), str(mention)


# -- properties of pages -----------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_contains_a_path_of_a_developers_machine(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if LOCAL_PATH.search(line)] == []


PYTHON = [
    (page, block)
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]


def test_pages_have_examples_in_python() -> None:
    assert {page.name for page, _ in PYTHON} >= {"README.md", "RUNNING.md", "TIERS.md", "WORKFLOWS.md"}


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_an_example_parses_and_imports_names_that_exist(page: Path, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.partition(".")[0] == "poise":
            module = import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == [], page.name


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_an_example_imports_public_names_from_the_package(page: Path, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module not in {None, "poise"}:
            assert not {name.name for name in node.names} & set(poise.__all__), page.name


# -- tables match the code -------------------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of docs/WIRE.md, without the header row."""
    below = WIRE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_table_of_topics_is_complete() -> None:
    assert rows("Topics") == [topic_row(topic) for topic in CATALOGUE.values()]


def topic_row(topic: Topic) -> list[str]:
    """Return the table row of a topic."""
    any_message = topic.accepts == (Message,)
    carries = ", ".join("null" if kind is Deletion else f"`{kind.kind}`" for kind in topic.accepts if not any_message)
    fate = "to retry" if ".retry." in topic.name else "that failed"
    return [
        f"`{topic.name}`",
        f"any message {fate}" if any_message else carries,
        f"`{topic.key}`" if "<" in topic.key else topic.key,
        str(topic.partitions),
        "compacted" if topic.compacted else seconds(topic.retention),
        "by key" if topic.ordered else "–",
        "anyone" if topic.public else "Poise",
        topic.tier or "–",
        deadlines(topic.deadlines) if topic.tier else "–",
    ]


def deadlines(limits: Deadlines) -> str:
    """Return the table cell of deadlines."""
    return "none" if limits is NO_DEADLINE else f"{seconds(limits.default)}, {seconds(limits.longest)}"


def seconds(value: float | None) -> str:
    """Return a duration in the format of docs/WIRE.md."""
    if value is None:
        return "forever"
    if value >= DAY:
        return f"{value / DAY:g} d"
    return f"{value / HOUR:g} h" if value >= HOUR else f"{value:g} s"


def test_table_of_headers_is_complete() -> None:
    assert header_names("Headers") == [*MESSAGE_HEADERS]


def test_table_of_dead_letter_headers_is_complete() -> None:
    assert header_names("Dead letters") == [*DEAD_LETTER_HEADERS, *MARKER_HEADERS]


def test_table_of_delayed_retry_headers_is_complete() -> None:
    assert header_names("Delayed retries") == [*RETRY_HEADERS]


def test_table_of_moved_document_headers_is_complete() -> None:
    assert header_names("Documents in another partition") == [ORIGIN, *MOVED_HEADERS]


def header_names(heading: str) -> list[str]:
    """Return the headers in the first table below a heading of docs/WIRE.md."""
    return [row[0].strip("`") for row in rows(heading)]


def errors() -> Iterator[type[PoiseError]]:
    """Yield the errors with a fault type. `SetupError` is skipped, because only people see it."""
    for dotted, path in source_files():
        named = re.search(r'^    name(: ClassVar\[str\])? = "', path.read_text(encoding="utf-8"), re.MULTILINE)
        if named is None:
            continue
        module = import_module(dotted)
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, PoiseError) and "name" in vars(kind)
            if own and kind.__module__ == module.__name__ and kind is not SetupError:
                yield kind


def test_table_of_faults_is_complete() -> None:
    expected = [
        [f"`urn:poise:{kind.name}`", str(int(kind.status)), "yes" if kind.retryable else "no"] for kind in errors()
    ]
    assert len(expected) > 10
    found = rows("Faults")
    assert sorted(row[:3] for row in found) == sorted(expected)
    assert all(row[3] for row in found)


def test_documented_bodies_are_the_golden_ones() -> None:
    section = WIRE.split("\n## Bodies\n", 1)[1].split("\n## ", 1)[0]
    written = re.findall(r"^`([a-z-]+/\d+)`.*?\n\n```json\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in written] == [kind for kind, _, _ in GOLDEN]
    for (kind, block), (_, body, text) in zip(written, GOLDEN, strict=True):
        assert json.dumps(json.loads(block), ensure_ascii=False, separators=(",", ":")) == text, kind
        assert type(body).parse(block) == body, kind
    named = set(re.findall(r"`([a-z-]+/\d+)`", section))
    assert body_schemas().keys() <= named


def test_table_of_partitions_is_correct() -> None:
    for key, partition in rows("Keys and partitions"):
        assert partition_for(key.strip("`").encode(), CATALOGUE["poise.documents"].partitions) == int(partition)
