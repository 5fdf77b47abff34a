"""`poise ingest PATH…`: text and Markdown files into the corpus."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption, JsonOption, open_client
from poise.cli.console import err, out, print_json
from poise.cli.errors import EXIT_FAILED, async_command
from poise.cli.progress import ProgressBars
from poise.cli.text import clean, plural
from poise.client import AT_ONCE, Poise
from poise.contracts.document import Document
from poise.contracts.epoch import Epoch
from poise.errors import SetupError, TerminalError, UnavailableError
from poise.ingestion.document_files import KINDS, Refusal, find, read
from poise.ingestion.publish import Indexed, Known, Stalled, Watch, digest, known
from poise.kafka.record import Position

PATIENCE: Final = 120.0

Standing = Literal["new", "changed", "unchanged"]
STANDINGS: Final[tuple[Standing, ...]] = ("new", "changed", "unchanged")
Given = tuple[str, Document | Refusal]


@dataclass(slots=True)
class Ingested:
    """What became of the documents."""

    standing: dict[str, tuple[Standing, Position]] = field(default_factory=dict)
    """What is, or will be, in the index: by document, what was done, and where it stands in `poise.documents`."""
    indexed: int = 0
    parts: int = 0
    refused: list[Refusal] = field(default_factory=list)
    """What is not in the index, and will not be."""
    waiting: list[str] = field(default_factory=list)
    """What was published, and was not indexed as long as we looked."""
    epoch: Epoch | None = None

    def count(self, standing: Standing) -> int:
        """How many documents are new, changed or unchanged."""
        return sum(found == standing for found, _ in self.standing.values())

    @property
    def published(self) -> int:
        """How many documents were written to the log."""
        return len(self.standing) - self.count("unchanged")

    def headline(self) -> str:
        """What was found: `79 documents: 3 new, 76 unchanged`."""
        named = ", ".join(f"{number} {name}" for name in STANDINGS if (number := self.count(name)))
        return f"{plural(len(self.standing), 'document')}: {named}" if named else "no documents"

    def to_json(self) -> str:
        """The same for machines."""
        return json.dumps(
            {
                "documents": len(self.standing),
                **{name: self.count(name) for name in STANDINGS},
                "indexed": self.indexed,
                "passages": self.parts,
                "refused": [{"name": item.name, "why": item.why} for item in self.refused],
                "waiting": self.waiting,
                "epoch": self.epoch.encode() if self.epoch else None,
            },
            ensure_ascii=False,
        )


@async_command
async def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help=f"Files or folders ({KINDS}).")],
    broker: BrokerOption = None,
    prefix: Annotated[str, typer.Option(help="Put before each id, such as handbook/.")] = "",
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all can be found.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Publish what is unchanged too.")] = False,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="Stop waiting when nothing was indexed for so long.")
    ] = PATIENCE,
    as_json: JsonOption = False,
) -> None:
    """Put text and Markdown files into the corpus. A document's id is its path below what is given."""
    found = find(paths, prefix)
    for refusal in found.refused:
        _say(refusal)
    if not found.files:
        raise SetupError(_nothing(found.passed_over))
    given = ((file.id, read(file)) for file in found.files)
    async with open_client(broker) as poise:
        with ProgressBars(err) as bars:
            done = await bring(
                poise,
                given,
                ids={file.id for file in found.files},
                bars=bars,
                force=force,
                patience=patience if wait else None,
                refuse=_say,
            )
    done.refused[:0] = found.refused
    _conclude(done, wait=wait, patience=patience, as_json=as_json)


def _say(refusal: Refusal) -> None:
    err.print(Text.assemble(("refused ", "yellow"), clean(str(refusal))), soft_wrap=True)


def _nothing(passed_over: int) -> str:
    others = f" ({plural(passed_over, 'file')} of other kinds)" if passed_over else ""
    return f"nothing to ingest{others}: give files or folders with {KINDS}"


def _conclude(done: Ingested, *, wait: bool, patience: float, as_json: bool) -> None:
    if as_json:
        print_json(done.to_json())
    else:
        out.print(report(done, wait=wait), soft_wrap=True)
    if done.waiting:
        raise UnavailableError(
            f"nothing was indexed for {patience:g} s, and {plural(len(done.waiting), 'document')} wait: is a retrieval"
            " worker running (`poise status`)? What is published stays, and is indexed when one runs"
        )
    if not done.standing:
        raise typer.Exit(EXIT_FAILED)


def report(done: Ingested, *, wait: bool) -> Text:
    """What became of the documents, for a person."""
    text = Text(done.headline(), style="bold")
    if done.refused:
        text.append(f", {len(done.refused)} refused", style="yellow")
    if wait and done.indexed:
        text.append(f" · indexed as {plural(done.parts, 'passage')}", style="not bold")
    if done.epoch is not None and done.published and not wait:
        text.append(f"\npoise ask --min-epoch {done.epoch.encode()} …", style="not bold dim")
    return text


async def bring(
    poise: Poise,
    given: Iterable[Given],
    *,
    ids: set[str],
    bars: ProgressBars,
    force: bool = False,
    patience: float | None = PATIENCE,
    refuse: Callable[[Refusal], None] = lambda _: None,
) -> Ingested:
    """Publish what the log does not have yet, and wait until it is indexed.

    Args:
        poise: The client.
        given: The documents by id, read one after another.
        ids: Their ids.
        bars: Shows how far it has come.
        force: Publish what is unchanged too.
        patience: Seconds to wait while nothing is indexed; None = do not wait.
        refuse: Told of each document that is not taken.

    Raises:
        UnavailableError: The broker does not take them.
    """
    done = Ingested()

    def note(refusal: Refusal) -> None:
        done.refused.append(refusal)
        refuse(refusal)

    before = await known(poise.mesh, ids)
    async with Watch(poise.mesh) as watch:
        publishing = bars.add("publish", len(ids))
        async for id_, result in _publish(poise, given, {} if force else before):
            publishing.advance()
            if isinstance(result, Refusal):
                note(result)
                continue
            known_as = before.get(id_)
            if known_as is not None and known_as.position == result:
                done.standing[id_] = "unchanged", result
                continue
            done.standing[id_] = "new" if known_as is None else "changed", result
            watch.expect(id_, result)
        if patience is not None and done.published:
            await _follow(watch, done, bars, patience, note)
    done.epoch = await poise.epoch_of(at for _, at in done.standing.values())
    return done


async def _publish(
    poise: Poise, given: Iterable[Given], before: Mapping[str, Known]
) -> AsyncIterator[tuple[str, Position | Refusal]]:
    """Publish some at a time what is not known already; where each stands, or why it is refused."""

    async def put(id_: str, document: Document | Refusal) -> Position | Refusal:
        if isinstance(document, Refusal):
            return document
        known_as = before.get(id_)
        if known_as is not None and known_as.digest == digest(document):
            return known_as.position
        try:
            return await poise.put(id_, document)
        except TerminalError as error:
            return Refusal(id_, str(error))

    rest: Iterator[Given] = iter(given)
    while chunk := await asyncio.to_thread(lambda: list(islice(rest, AT_ONCE))):
        results = await asyncio.gather(*(put(id_, document) for id_, document in chunk))
        for (id_, _), result in zip(chunk, results, strict=True):
            yield id_, result


async def _follow(
    watch: Watch, done: Ingested, bars: ProgressBars, patience: float, note: Callable[[Refusal], None]
) -> None:
    indexing = bars.add("index", done.published)
    try:
        async for outcome in watch.outcomes(patience):
            indexing.advance()
            if isinstance(outcome, Indexed):
                done.indexed += 1
                done.parts += outcome.parts
            else:
                del done.standing[outcome.id]
                note(Refusal(outcome.id, f"retrieval set it aside, see `poise dlq ls`: {outcome.why}"))
    except Stalled:
        done.waiting = watch.waiting
