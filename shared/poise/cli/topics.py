"""`poise topics`: show, apply and check the topic catalog."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from poise.cli.connect import BrokerOption
from poise.cli.console import out
from poise.cli.errors import EXIT_FAILED, async_command
from poise.cli.table import Row, table
from poise.cli.text import format_duration, plural
from poise.contracts.document import Deletion
from poise.contracts.message import Message
from poise.contracts.topics import CATALOGUE, Topic
from poise.kafka.admin import KafkaAdmin, TopicState
from poise.kafka.connection import Connection
from poise.stack.discovery import resolve_settings
from poise.worker import tier_loader

app = typer.Typer(help="Show, apply and check the topic catalog.", no_args_is_help=True, add_completion=False)


TierOption = Annotated[
    list[str] | None,
    typer.Option("--tier", metavar="FILE.py[:NAME]", show_default=False, help="Also the topics of this custom tier."),
]


async def _custom_topics(tiers: Sequence[str] | None) -> list[Topic]:
    """Return the topics of custom tiers."""
    found: list[Topic] = []
    for where in tiers or ():
        async with tier_loader.open_tier(tier_loader.load(where)) as tier:
            found.extend(tier.custom_topics)
    return found


@app.command()
@async_command
async def show(tier: TierOption = None) -> None:
    """Show each topic: its partitions, retention, consumer tier, body kinds and key."""
    rows = [
        Row(
            (topic.name, str(topic.partitions), retention(topic), topic.tier or "-"),
            f"{body_kinds(topic)} · key: {topic.key}",
            "cyan",
        )
        for topic in (*CATALOGUE.values(), *await _custom_topics(tier))
    ]
    out.print(table(("topic", "partitions", "retention", "tier"), rows))


@app.command()
@async_command
async def apply(
    tier: TierOption = None,
    broker: BrokerOption = None,
    replication: Annotated[
        int | None,
        typer.Option(min=1, show_default=False, help="The replication factor; default: 3, or the number of brokers."),
    ] = None,
) -> None:
    """Create missing topics and correct the settings of others. Numbers of partitions are not changed."""
    found, own = resolve_settings(broker), await _custom_topics(tier)
    async with KafkaAdmin(Connection.of(found)) as admin:
        before = await admin.apply(replication, own)
        after = await admin.check(own)
    created = [state for state in before if state.partitions is None]
    corrected = [state for state in before if state.partitions is not None and state.differences]
    for state in created:
        out.print(Text.assemble(("created ", "green"), state.topic.name))
    for state in corrected:
        out.print(Text.assemble(("corrected ", "yellow"), f"{state.topic.name}: {'; '.join(state.differences)}"))
    out.print(f"{plural(len(after), 'topic')} on {found.broker}, {len(created)} created, {len(corrected)} corrected")
    _exit_if_different(after)


@app.command()
@async_command
async def check(tier: TierOption = None, broker: BrokerOption = None) -> None:
    """Compare the broker's topics with the catalog. The exit code is 1 if they differ."""
    found, own = resolve_settings(broker), await _custom_topics(tier)
    async with KafkaAdmin(Connection.of(found)) as admin:
        states = await admin.check(own)
    _exit_if_different(states)
    out.print(f"{plural(len(states), 'topic')} on {found.broker} match the catalog")


def _exit_if_different(states: Sequence[TopicState]) -> None:
    different = [state for state in states if state.differences]
    for state in different:
        out.print(Text.assemble(("differs ", "red"), f"{state.topic.name}: {'; '.join(state.differences)}"))
    if different:
        raise typer.Exit(EXIT_FAILED)


def body_kinds(topic: Topic) -> str:
    """Return the kinds of body of a topic, as text."""
    kinds = [kind.kind for kind in topic.accepts if kind not in {Deletion, Message}]
    if Deletion in topic.accepts:
        kinds.append("null (deletes)")
    return ", ".join(kinds) or "any message that could not be handled"


def retention(topic: Topic) -> str:
    """Return a topic's retention, as text."""
    if topic.compacted:
        return "compacted"
    return "unlimited" if topic.retention is None else format_duration(topic.retention)
