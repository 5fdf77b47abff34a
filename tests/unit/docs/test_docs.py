"""The pages stay true: what they name exists, and their tables say what the code says."""

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

from poise.cli.app import COMMANDS, app
from poise.contracts import Deletion, Message
from poise.contracts.topics import CATALOGUE, DAY, HOUR, UNHURRIED, Deadlines, Topic
from poise.dead_letters.model import (
    AT,
    CUT,
    ERROR,
    FROM,
    MESSAGE,
    POSITION,
    PURGED,
    REDRIVEN,
    TRACEBACK,
    UNDECODED,
    WORKER,
)
from poise.errors import PoiseError, SetupError
from poise.kafka.asyncapi_document import HEADERS, body_schemas
from poise.kafka.partitioner import partition_for

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
WIRE = (ROOT / "docs" / "WIRE.md").read_text(encoding="utf-8")
GOLDEN: list[tuple[str, Message, str]] = runpy.run_path(str(ROOT / "tests" / "contract" / "test_wire.py"))["GOLDEN"]

CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|ya?ml|svg|lock)|(?:[\w.-]+/)+|Makefile|NOTICE)(?::([\w.]+))?")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(#[^)\s]*)?\)|(?:src|srcset|href)=\"(?!https?:)([^\"]+)\"")
MACHINE = re.compile(r"(?<![\w.:])/(?:home|root|tmp|work|Users|usr|var|opt|mnt|private)/")
RAN = re.compile(r"^(?:\$ )?((?:\.venv/bin/)?(?:poise|make)\b.*)$")
ELSEWHERE = {"translation.py", "hello.py", "greetings.py", "brief.py", ".poise/"}
"""What a reader is told to make, and what the stack makes."""


class Said(NamedTuple):
    """Something that a page says, and where."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def said_in_code() -> Iterator[Said]:
    """What stands in backticks, and each line of a block of shell."""
    for page in PAGES:
        fence: str | None = None
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("```"):
                fence = line.removeprefix("```") if fence is None else None
            elif fence is None:
                yield from (Said(page, number, code) for code in CODE.findall(line))
            elif fence in {"sh", "console"} and (ran := RAN.match(line)):
                yield Said(page, number, ran[1])


SAID = list(said_in_code())


# -- what is named exists ----------------------------------------------------------------------------------------------

PATHS = [said for said in SAID if PATH.fullmatch(said.text) and said.text not in ELSEWHERE]


def test_paths_are_named_at_all() -> None:
    assert len(PATHS) > 30


@pytest.mark.parametrize("said", PATHS, ids=str)
def test_a_path_and_its_function_exist(said: Said) -> None:
    found = PATH.fullmatch(said.text)
    assert found is not None
    path = ROOT / found[1]
    assert path.exists(), f"{said}: there is no such file"
    if found[2]:
        assert found[2] in names_of(path), f"{said}: there is no such name in it"


@cache
def names_of(path: Path) -> frozenset[str]:
    """Functions, classes, methods (`Class.method`) and constants of a module."""
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
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor, source in LINK.findall(text):
        path = page.parent / (target or source) if target or source else page
        assert path.exists(), f"{page.name}: {target or source}"
        if anchor:
            assert anchor[1:] in anchors(path), f"{page.name}: {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


POISE = [said for said in SAID if re.match(r"(\.venv/bin/)?poise( |$)", said.text)]
MAKE = [said for said in SAID if re.match(r"make( |$)", said.text)]


def test_commands_are_named_at_all() -> None:
    assert len(POISE) > 10
    assert {"make demo", "make test"} <= {said.text for said in MAKE}


@pytest.mark.parametrize("said", POISE, ids=str)
def test_a_command_of_poise_and_its_options_exist(said: Said) -> None:
    words = re.sub(r'"[^"]*"', "TEXT", said.text.split("#")[0]).split()[1:]
    command: Any = typer.main.get_command(app)
    context = command.make_context("poise", [], resilient_parsing=True)
    if not words or words[0] == "…":
        return
    assert words[0] in COMMANDS, str(said)
    _, command, rest = command.resolve_command(context, words)
    if hasattr(command, "commands"):
        assert rest, f"{said}: names no command of the group"
        assert rest[0] in command.commands, str(said)
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)} <= known, str(said)


@pytest.mark.parametrize("said", MAKE, ids=str)
def test_a_target_of_make_exists(said: Said) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [word for word in said.text.split()[1:] if "=" not in word]
    assert set(named) <= set(targets), str(said)


# -- what the pages are ------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_carries_a_path_of_somebodys_machine(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if MACHINE.search(line)] == []


def test_the_script_of_the_readme_is_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


# -- tables are those of the code --------------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of docs/WIRE.md, without its head."""
    below = WIRE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_the_table_of_topics() -> None:
    assert rows("Topics") == [topic_row(topic) for topic in CATALOGUE.values()]


def topic_row(topic: Topic) -> list[str]:
    """A topic as docs/WIRE.md has it."""
    whatever = topic.accepts == (Message,)
    carries = ", ".join("null" if kind is Deletion else f"`{kind.kind}`" for kind in topic.accepts if not whatever)
    fate = "to retry" if ".retry." in topic.name else "that failed"
    return [
        f"`{topic.name}`",
        f"any message {fate}" if whatever else carries,
        f"`{topic.key}`" if "<" in topic.key else topic.key,
        str(topic.partitions),
        "compacted" if topic.compacted else seconds(topic.keep),
        "by key" if topic.ordered else "–",
        "anyone" if topic.edge else "Poise",
        topic.tier or "–",
        deadlines(topic.deadlines) if topic.tier else "–",
    ]


def deadlines(limits: Deadlines) -> str:
    """Deadlines as docs/WIRE.md has them."""
    return "none" if limits is UNHURRIED else f"{seconds(limits.default)}, {seconds(limits.longest)}"


def seconds(value: float | None) -> str:
    """A time as docs/WIRE.md has it."""
    if value is None:
        return "forever"
    if value >= DAY:
        return f"{value / DAY:g} d"
    return f"{value / HOUR:g} h" if value >= HOUR else f"{value:g} s"


def test_the_table_of_headers() -> None:
    assert [row[0] for row in rows("Headers")] == [f"`{name}`" for name in HEADERS]


def test_the_table_of_headers_of_dead_letters() -> None:
    added = [FROM, POSITION, ERROR, MESSAGE, TRACEBACK, WORKER, AT, CUT, UNDECODED, REDRIVEN, PURGED]
    assert [row[0] for row in rows("Dead letters")] == [f"`{name}`" for name in added]


def errors() -> Iterator[type[PoiseError]]:
    """The errors that a fault is made of: all that have a name of their own, but the one that only a person sees."""
    for dotted, path in source_files():
        named = re.search(r'^    name(: ClassVar\[str\])? = "', path.read_text(encoding="utf-8"), re.MULTILINE)
        if named is None:
            continue
        module = import_module(dotted)
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, PoiseError) and "name" in vars(kind)
            if own and kind.__module__ == module.__name__ and kind is not SetupError:
                yield kind


def test_the_table_of_faults() -> None:
    wanted = [
        [f"`urn:poise:{kind.name}`", str(int(kind.status)), "yes" if kind.retryable else "no"] for kind in errors()
    ]
    assert len(wanted) > 10
    found = rows("Faults")
    assert sorted(row[:3] for row in found) == sorted(wanted)
    assert all(row[3] for row in found)


def test_the_bodies_are_the_golden_ones() -> None:
    section = WIRE.split("\n## Bodies\n", 1)[1].split("\n## ", 1)[0]
    written = re.findall(r"^`([a-z-]+/\d+)`.*?\n\n```json\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in written] == [kind for kind, _, _ in GOLDEN]
    for (kind, block), (_, body, text) in zip(written, GOLDEN, strict=True):
        assert json.dumps(json.loads(block), ensure_ascii=False, separators=(",", ":")) == text, kind
        assert type(body).parse(block) == body, kind
    named = set(re.findall(r"`([a-z-]+/\d+)`", section))
    assert body_schemas().keys() <= named


def test_the_table_of_partitions() -> None:
    for key, partition in rows("Keys and partitions"):
        assert partition_for(key.strip("`").encode(), CATALOGUE["poise.documents"].partitions) == int(partition)
