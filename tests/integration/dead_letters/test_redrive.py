"""Dead letters are redriven once each, even if processes die or run concurrently, and can be purged."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from integration_kit import serving, until

from poise.contracts import Answer, Ask
from poise.contracts.topics import MIB, RUNS_INTERACTIVE
from poise.dead_letters import model
from poise.dead_letters.admin import DeadLetterAdmin
from poise.dead_letters.filter import DeadLetterFilter
from poise.dead_letters.model import DeadLetter, DeadLetterState
from poise.dead_letters.redrive import RedriveExecutor
from poise.dead_letters.redrive_plan import RedriveOptions, RedriveOutcome
from poise.errors import InvalidMessageError, RetryableError
from poise.kafka.record import Record
from poise.settings import MeshSettings
from poise.worker.context import Context
from poise.worker.runtime import WorkerRuntime
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

KILLED = Path(__file__).parents[2] / "kit" / "killed_redrive.py"


class TierDeadLetters:
    """The dead letters of a tier that only one test uses."""

    def __init__(self, mesh: WorkerRuntime, tier: str) -> None:
        self.mesh = mesh
        self.tier = tier
        self.all = DeadLetterFilter(tier=tier)
        self.topic = f"poise.{tier}.requests"
        self.admin = DeadLetterAdmin(mesh.logs, mesh.settings.tenant)

    async def write(self, *keys: str, size: int = 10, redrives: int = 0) -> None:
        """Write a dead letter for each key."""
        headers = (("poise-redrives", str(redrives).encode()),) if redrives else ()
        for key in keys:
            record = Record(self.topic, 0, int(uuid4().int % 10**9), 1.0, key.encode(), b"x" * size, headers)
            await model.write_dead_letter(
                self.mesh.producer.records.send,
                self.tier,
                record,
                ValueError(f"no {key}"),
                attempt=1,
                worker="worker-1",
            )

    async def states(self) -> dict[str, DeadLetterState]:
        """Return the state of each dead letter by key."""
        return {(letter.record.key or b"").decode(): letter.state for letter in await self.admin.select(self.all)}

    async def resent(self) -> list[str]:
        """Return the keys of the committed resent messages in the tier's topic."""
        return [(record.key or b"").decode() for record in await self.mesh.logs.read_topic(self.topic)]

    async def redrive(
        self, selected: DeadLetterFilter | None = None, options: RedriveOptions | None = None
    ) -> list[RedriveOutcome]:
        """Redrive the selected dead letters and return the outcomes."""
        return [outcome async for outcome in self.admin.redrive(selected or self.all, options or RedriveOptions())]

    async def by_key(self, key: str) -> DeadLetter:
        """Return the dead letter with a key."""
        [letter] = await self.admin.select(DeadLetterFilter(tier=self.tier, key=key.encode()))
        return letter


@pytest.fixture
async def dead_letters(mesh_settings: MeshSettings) -> AsyncIterator[TierDeadLetters]:
    """Yield a new tier without dead letters."""
    tier = f"tier-{uuid4().hex[:8]}"
    client = AIOKafkaAdminClient(bootstrap_servers=mesh_settings.broker)
    await client.start()
    large = {"max.message.bytes": str(3 * MIB)}
    await client.create_topics(
        [NewTopic(f"poise.{tier}.dead", 1, 1, topic_configs=large), NewTopic(f"poise.{tier}.requests", 3, 1)]
    )
    await client.close()
    async with WorkerRuntime(mesh_settings, tier="cli") as mesh:
        yield TierDeadLetters(mesh, tier)


async def test_each_dead_letter_is_sent_once_and_marked(dead_letters: TierDeadLetters) -> None:
    keys = [f"k{number}" for number in range(250)]
    await dead_letters.write(*keys)
    outcomes = await dead_letters.redrive()
    assert [outcome.refused for outcome in outcomes] == [None] * 250
    assert sorted(await dead_letters.resent()) == sorted(keys)
    assert set((await dead_letters.states()).values()) == {DeadLetterState.REDRIVEN}
    letter = await dead_letters.by_key("k7")
    [copy] = [record for record in await dead_letters.mesh.logs.read_topic(dead_letters.topic) if record.key == b"k7"]
    assert letter.redriven == str(copy.position)
    assert (copy.value, copy.header("poise-redrives")) == (b"x" * 10, "1")
    assert await dead_letters.redrive() == []
    [again] = await dead_letters.redrive(DeadLetterFilter(ids=letter.ids))
    assert "was sent again already" in (again.refused or "")
    assert len(await dead_letters.resent()) == 250


async def test_a_dry_run_sends_nothing(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("a", "b")
    outcomes = await dead_letters.redrive(options=RedriveOptions(dry_run=True))
    assert [(outcome.sent, outcome.refused) for outcome in outcomes] == [(None, None)] * 2
    assert await dead_letters.resent() == []


@pytest.mark.parametrize("place", ["copy", "marker", "committed"])
async def test_a_redrive_that_is_killed_has_one_effect(
    mesh_settings: MeshSettings, dead_letters: TierDeadLetters, place: str
) -> None:
    """Use a topic that a worker reads: its handler counts the effects."""
    question, conversation = uuid4().hex, uuid4().hex
    asked: list[str] = []
    last = asyncio.Event()

    async def answer(ask: Ask, context: Context) -> Answer:
        asked.append(ask.question)
        if ask.question == "the last":
            last.set()
        return Answer(run_id=context.run, text="yes", rung="primary", variant="small")

    body = Ask(question=question, conversation=conversation).encode()
    failed = Record(RUNS_INTERACTIVE.name, 0, 10**9 + int(uuid4().int % 10**6), 1.0, conversation.encode(), body)
    async with serving(mesh_settings, Tier("orchestration", {Ask: answer})):
        at = await model.write_dead_letter(
            dead_letters.mesh.producer.records.send,
            "orchestration",
            failed,
            ValueError("no"),
            attempt=1,
            worker="worker-1",
        )
        selected = DeadLetterFilter(ids=frozenset({f"orchestration/0/{at.offset}"}))
        await run_killed_redrive(mesh_settings.broker, place, *selected.ids)
        [outcome] = await dead_letters.redrive(selected)
        assert (outcome.refused is None) == (place != "committed")
        [letter] = await dead_letters.admin.select(selected)
        assert letter.state is DeadLetterState.REDRIVEN
        closing = Ask(question="the last", conversation=conversation)
        await dead_letters.mesh.producer.publish(RUNS_INTERACTIVE, closing, key=conversation)
        await asyncio.wait_for(last.wait(), 30)
    assert asked == [question, "the last"]


async def run_killed_redrive(broker: str, place: str, id_: str) -> None:
    """Run a redrive that is killed at `place`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(KILLED), place, id_, env={**os.environ, "POISE_BROKER": broker}
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


async def test_a_later_redrive_fences_an_earlier_one_and_continues_it(dead_letters: TierDeadLetters) -> None:
    keys = [f"k{number}" for number in range(60)]
    await dead_letters.write(*keys)
    later: list[RedriveOutcome] = []
    earlier: list[RedriveOutcome] = []

    async def first() -> None:
        async with aclosing(dead_letters.admin.redrive(dead_letters.all, RedriveOptions(rate=20.0))) as outcomes:
            async for outcome in outcomes:
                earlier.append(outcome)
                if len(earlier) == 5:
                    later.extend(await dead_letters.redrive())

    with pytest.raises(
        RetryableError, match=f"another process started to redrive or purge dead letters of {dead_letters.tier}"
    ):
        await first()
    assert len(earlier) + len(later) == 60
    assert {outcome.refused for outcome in (*earlier, *later)} == {None}
    assert sorted(await dead_letters.resent()) == sorted(keys)


async def test_a_dead_letter_redriven_since_the_selection_is_not_sent(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("a", "b")
    selections = 0

    async def select() -> list[DeadLetter]:
        nonlocal selections
        selections += 1
        results = await dead_letters.admin.select(dead_letters.all)
        if selections == 1:
            await dead_letters.redrive()
        return results

    redriver = RedriveExecutor(dead_letters.mesh.logs, dead_letters.tier, select, RedriveOptions(), named=False)
    assert [outcome async for outcome in redriver.run()] == []
    assert selections == 2
    assert sorted(await dead_letters.resent()) == ["a", "b"]


async def test_concurrent_redrives_send_each_dead_letter_once(dead_letters: TierDeadLetters) -> None:
    keys = [f"k{number}" for number in range(200)]
    await dead_letters.write(*keys)
    results = await asyncio.gather(
        *(dead_letters.redrive(options=RedriveOptions(rate=400.0)) for _ in range(4)), return_exceptions=True
    )
    assert all(isinstance(result, list | RetryableError) for result in results), results
    await dead_letters.redrive()
    assert sorted(await dead_letters.resent()) == sorted(keys)
    tombstones = [
        record
        for record in await dead_letters.mesh.logs.read_topic(f"poise.{dead_letters.tier}.dead")
        if not record.value
    ]
    assert len(tombstones) == 200


async def test_an_interrupted_redrive_continues_when_it_is_run_again(dead_letters: TierDeadLetters) -> None:
    keys = [f"k{number}" for number in range(30)]
    await dead_letters.write(*keys)
    sent: list[RedriveOutcome] = []

    async def first() -> None:
        async with aclosing(dead_letters.admin.redrive(dead_letters.all, RedriveOptions(rate=10.0))) as outcomes:
            async for outcome in outcomes:
                sent.append(outcome)  # noqa: PERF401 - the test reads it meanwhile

    task = asyncio.create_task(first())
    await until(lambda: bool(sent))
    task.cancel()
    assert (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert len(sent) < 30
    rest = await dead_letters.redrive()
    assert len(sent) + len(rest) in {29, 30}, "one may have been sent without its outcome being received"
    assert sorted(await dead_letters.resent()) == sorted(keys)


async def test_a_dead_letter_too_large_for_its_topic_does_not_block_others(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("a", "b")
    await dead_letters.write("large", size=MIB + 1)
    await dead_letters.write("c", "d")
    outcomes = {(outcome.entry.record.key or b"").decode(): outcome.refused for outcome in await dead_letters.redrive()}
    assert f"is refused by {dead_letters.topic}" in (outcomes.pop("large") or "")
    assert outcomes == dict.fromkeys("abcd")
    assert sorted(await dead_letters.resent()) == list("abcd")


async def test_a_poison_pill_is_quarantined(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("well")
    await dead_letters.write("poison", redrives=3)
    outcomes = {outcome.entry.record.key: outcome.refused for outcome in await dead_letters.redrive()}
    assert outcomes[b"well"] is None
    assert "is quarantined: sent again 3 times" in (outcomes[b"poison"] or "")
    poison = DeadLetterFilter(ids=(await dead_letters.by_key("poison")).ids)
    [refused] = await dead_letters.redrive(poison)
    assert refused.refused is not None
    assert await dead_letters.resent() == ["well"]
    [forced] = await dead_letters.redrive(poison, RedriveOptions(force=True))
    assert forced.refused is None
    [copy] = [
        record for record in await dead_letters.mesh.logs.read_topic(dead_letters.topic) if record.key == b"poison"
    ]
    assert copy.header("poise-redrives") == "4"


# -- purging -----------------------------------------------------------------------------------------------------------


async def test_a_purged_dead_letter_cannot_be_found(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("a", "b", "c")
    selected = DeadLetterFilter(tier=dead_letters.tier, key=b"b")
    id_ = (await dead_letters.by_key("b")).id
    assert [letter.id for letter in await dead_letters.admin.purge(selected)] == [id_]
    assert await dead_letters.states() == {"a": DeadLetterState.DEAD, "c": DeadLetterState.DEAD}
    for gone in (
        dead_letters.redrive(DeadLetterFilter(ids=frozenset({id_}))),
        dead_letters.admin.purge(DeadLetterFilter(ids=frozenset({id_}))),
    ):
        with pytest.raises(InvalidMessageError, match=f"dead letter {id_}"):
            await gone
    assert await dead_letters.admin.purge(selected) == []
    await dead_letters.redrive()
    assert sorted(await dead_letters.resent()) == ["a", "c"]


async def test_purging_deletes_the_records_before_the_first_needed_dead_letter(dead_letters: TierDeadLetters) -> None:
    await dead_letters.write("a", "b", "c")
    dead = f"poise.{dead_letters.tier}.dead"
    await dead_letters.redrive(DeadLetterFilter(tier=dead_letters.tier, key=b"a"))

    async def readable() -> list[bytes | None]:
        return [record.key for record in await dead_letters.mesh.logs.read_topic(dead) if record.value]

    await dead_letters.admin.purge(DeadLetterFilter(tier=dead_letters.tier, key=b"b"))
    assert await readable() == [b"a", b"b", b"c"], "b is after a, which is still needed"
    await dead_letters.admin.purge(DeadLetterFilter(tier=dead_letters.tier, key=b"a"))
    assert await readable() == [b"c"]
    assert await dead_letters.states() == {"c": DeadLetterState.DEAD}
    await dead_letters.admin.purge(dead_letters.all)
    assert await readable() == []
    await dead_letters.write("d")
    assert await dead_letters.states() == {"d": DeadLetterState.DEAD}
