"""Redriving dead letters, each once, while processes die or run concurrently; and purging them."""

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


class Letters:
    """Dead letters of a tier that is this test's alone."""

    def __init__(self, mesh: WorkerRuntime, tier: str) -> None:
        self.mesh = mesh
        self.tier = tier
        self.all = DeadLetterFilter(tier=tier)
        self.topic = f"poise.{tier}.requests"
        self.admin = DeadLetterAdmin(mesh.logs, mesh.settings.tenant)

    async def write(self, *keys: str, size: int = 10, redrives: int = 0) -> None:
        """Have messages with these keys die."""
        headers = (("poise-redrives", str(redrives).encode()),) if redrives else ()
        for key in keys:
            record = Record(self.topic, 0, int(uuid4().int % 10**9), 1.0, key.encode(), b"x" * size, headers)
            await model.write(
                self.mesh.producer.send,
                self.tier,
                record,
                ValueError(f"no {key}"),
                attempt=1,
                worker="worker-1",
            )

    async def states(self) -> dict[str, DeadLetterState]:
        """How each stands, by key."""
        return {(letter.record.key or b"").decode(): letter.state for letter in await self.admin.select(self.all)}

    async def copies(self) -> list[str]:
        """The keys of what was sent again, as a worker sees them: what is committed."""
        return [(record.key or b"").decode() for record in await self.mesh.logs.read_topic(self.topic)]

    async def redrive(
        self, chosen: DeadLetterFilter | None = None, how: RedriveOptions | None = None
    ) -> list[RedriveOutcome]:
        """Send again, and wait for the end."""
        return [outcome async for outcome in self.admin.redrive(chosen or self.all, how or RedriveOptions())]

    async def one(self, key: str) -> DeadLetter:
        """The letter with that key."""
        [letter] = await self.admin.select(DeadLetterFilter(tier=self.tier, key=key.encode()))
        return letter


@pytest.fixture
async def letters(mesh_settings: MeshSettings) -> AsyncIterator[Letters]:
    """A tier with nothing in it yet."""
    tier = f"tier-{uuid4().hex[:8]}"
    client = AIOKafkaAdminClient(bootstrap_servers=mesh_settings.broker)
    await client.start()
    large = {"max.message.bytes": str(3 * MIB)}
    await client.create_topics(
        [NewTopic(f"poise.{tier}.dead", 1, 1, topic_configs=large), NewTopic(f"poise.{tier}.requests", 3, 1)]
    )
    await client.close()
    async with WorkerRuntime(mesh_settings, tier="cli") as mesh:
        yield Letters(mesh, tier)


async def test_each_is_sent_once_and_marked(letters: Letters) -> None:
    keys = [f"k{number}" for number in range(250)]
    await letters.write(*keys)
    outcomes = await letters.redrive()
    assert [outcome.refused for outcome in outcomes] == [None] * 250
    assert sorted(await letters.copies()) == sorted(keys)
    assert set((await letters.states()).values()) == {DeadLetterState.REDRIVEN}
    letter = await letters.one("k7")
    [copy] = [record for record in await letters.mesh.logs.read_topic(letters.topic) if record.key == b"k7"]
    assert letter.redriven == str(copy.position)
    assert (copy.value, copy.header("poise-redrives")) == (b"x" * 10, "1")
    assert await letters.redrive() == []
    [again] = await letters.redrive(DeadLetterFilter(ids=letter.ids))
    assert "was sent again already" in (again.refused or "")
    assert len(await letters.copies()) == 250


async def test_a_dry_run_sends_nothing(letters: Letters) -> None:
    await letters.write("a", "b")
    outcomes = await letters.redrive(how=RedriveOptions(dry_run=True))
    assert [(outcome.sent, outcome.refused) for outcome in outcomes] == [(None, None)] * 2
    assert await letters.copies() == []


@pytest.mark.parametrize("place", ["copy", "marker", "committed"])
async def test_a_process_that_is_killed_on_the_way_leaves_one_effect(
    mesh_settings: MeshSettings, letters: Letters, place: str
) -> None:
    """Walked through on a topic that a worker reads, so that the effect is a handler's."""
    question, conversation = uuid4().hex, uuid4().hex
    asked: list[str] = []
    last = asyncio.Event()

    async def answer(ask: Ask, context: Context) -> Answer:
        asked.append(ask.question)
        if ask.question == "the last":
            last.set()
        return Answer(run_id=context.run, text="yes", rung="primary", variant="small")

    body = Ask(question=question, conversation=conversation).encode()
    died = Record(RUNS_INTERACTIVE.name, 0, 10**9 + int(uuid4().int % 10**6), 1.0, conversation.encode(), body)
    async with serving(mesh_settings, Tier("orchestration", {Ask: answer})):
        at = await model.write(
            letters.mesh.producer.send, "orchestration", died, ValueError("no"), attempt=1, worker="worker-1"
        )
        chosen = DeadLetterFilter(ids=frozenset({f"orchestration/0/{at.offset}"}))
        await killed(mesh_settings.broker, place, *chosen.ids)
        [outcome] = await letters.redrive(chosen)
        assert (outcome.refused is None) == (place != "committed")
        [letter] = await letters.admin.select(chosen)
        assert letter.state is DeadLetterState.REDRIVEN
        closing = Ask(question="the last", conversation=conversation)
        await letters.mesh.producer.publish(RUNS_INTERACTIVE, closing, key=conversation)
        await asyncio.wait_for(last.wait(), 30)
    assert asked == [question, "the last"]


async def killed(broker: str, place: str, id_: str) -> None:
    """Run a redrive that is killed there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(KILLED), place, id_, env={**os.environ, "POISE_BROKER": broker}
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


async def test_of_two_at_once_the_later_goes_on_where_the_earlier_was(letters: Letters) -> None:
    keys = [f"k{number}" for number in range(60)]
    await letters.write(*keys)
    later: list[RedriveOutcome] = []
    earlier: list[RedriveOutcome] = []

    async def first() -> None:
        async with aclosing(letters.admin.redrive(letters.all, RedriveOptions(rate=20.0))) as outcomes:
            async for outcome in outcomes:
                earlier.append(outcome)
                if len(earlier) == 5:
                    later.extend(await letters.redrive())

    with pytest.raises(
        RetryableError, match=f"another process started to redrive or purge dead letters of {letters.tier}"
    ):
        await first()
    assert len(earlier) + len(later) == 60
    assert {outcome.refused for outcome in (*earlier, *later)} == {None}
    assert sorted(await letters.copies()) == sorted(keys)


async def test_what_another_has_sent_between_look_and_turn_is_not_sent(letters: Letters) -> None:
    await letters.write("a", "b")
    looks = 0

    async def look() -> list[DeadLetter]:
        nonlocal looks
        looks += 1
        found = await letters.admin.select(letters.all)
        if looks == 1:
            await letters.redrive()
        return found

    redriver = RedriveExecutor(letters.mesh.logs, letters.tier, look, RedriveOptions(), named=False)
    assert [outcome async for outcome in redriver.run()] == []
    assert looks == 2
    assert sorted(await letters.copies()) == ["a", "b"]


async def test_many_at_once_send_each_once(letters: Letters) -> None:
    keys = [f"k{number}" for number in range(200)]
    await letters.write(*keys)
    found = await asyncio.gather(
        *(letters.redrive(how=RedriveOptions(rate=400.0)) for _ in range(4)), return_exceptions=True
    )
    assert all(isinstance(one, list | RetryableError) for one in found), found
    await letters.redrive()
    assert sorted(await letters.copies()) == sorted(keys)
    marks = [record for record in await letters.mesh.logs.read_topic(f"poise.{letters.tier}.dead") if not record.value]
    assert len(marks) == 200


async def test_one_that_is_interrupted_goes_on_when_it_is_run_again(letters: Letters) -> None:
    keys = [f"k{number}" for number in range(30)]
    await letters.write(*keys)
    sent: list[RedriveOutcome] = []

    async def first() -> None:
        async with aclosing(letters.admin.redrive(letters.all, RedriveOptions(rate=10.0))) as outcomes:
            async for outcome in outcomes:
                sent.append(outcome)  # noqa: PERF401 - it is looked at meanwhile

    task = asyncio.create_task(first())
    await until(lambda: bool(sent))
    task.cancel()
    assert (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert len(sent) < 30
    rest = await letters.redrive()
    assert len(sent) + len(rest) in {29, 30}, "one may have been on its way, which nobody was told"
    assert sorted(await letters.copies()) == sorted(keys)


async def test_one_that_its_topic_refuses_holds_up_no_other(letters: Letters) -> None:
    await letters.write("a", "b")
    await letters.write("large", size=MIB + 1)
    await letters.write("c", "d")
    outcomes = {(outcome.entry.record.key or b"").decode(): outcome.refused for outcome in await letters.redrive()}
    assert f"is refused by {letters.topic}" in (outcomes.pop("large") or "")
    assert outcomes == dict.fromkeys("abcd")
    assert sorted(await letters.copies()) == list("abcd")


async def test_a_poison_pill_does_not_circle(letters: Letters) -> None:
    await letters.write("well")
    await letters.write("poison", redrives=3)
    outcomes = {outcome.entry.record.key: outcome.refused for outcome in await letters.redrive()}
    assert outcomes[b"well"] is None
    assert "is quarantined: sent again 3 times" in (outcomes[b"poison"] or "")
    poison = DeadLetterFilter(ids=(await letters.one("poison")).ids)
    [refused] = await letters.redrive(poison)
    assert refused.refused is not None
    assert await letters.copies() == ["well"]
    [forced] = await letters.redrive(poison, RedriveOptions(force=True))
    assert forced.refused is None
    [copy] = [record for record in await letters.mesh.logs.read_topic(letters.topic) if record.key == b"poison"]
    assert copy.header("poise-redrives") == "4"


# -- purging -----------------------------------------------------------------------------------------------------------


async def test_what_is_purged_is_not_there_any_more(letters: Letters) -> None:
    await letters.write("a", "b", "c")
    chosen = DeadLetterFilter(tier=letters.tier, key=b"b")
    id_ = (await letters.one("b")).id
    assert [letter.id for letter in await letters.admin.purge(chosen)] == [id_]
    assert await letters.states() == {"a": DeadLetterState.DEAD, "c": DeadLetterState.DEAD}
    for gone in (
        letters.redrive(DeadLetterFilter(ids=frozenset({id_}))),
        letters.admin.purge(DeadLetterFilter(ids=frozenset({id_}))),
    ):
        with pytest.raises(InvalidMessageError, match=f"dead letter {id_}"):
            await gone
    assert await letters.admin.purge(chosen) == []
    await letters.redrive()
    assert sorted(await letters.copies()) == ["a", "c"]


async def test_what_no_letter_needs_any_more_leaves_the_broker(letters: Letters) -> None:
    await letters.write("a", "b", "c")
    dead = f"poise.{letters.tier}.dead"
    await letters.redrive(DeadLetterFilter(tier=letters.tier, key=b"a"))

    async def readable() -> list[bytes | None]:
        return [record.key for record in await letters.mesh.logs.read_topic(dead) if record.value]

    await letters.admin.purge(DeadLetterFilter(tier=letters.tier, key=b"b"))
    assert await readable() == [b"a", b"b", b"c"], "a stands before b, and is kept"
    await letters.admin.purge(DeadLetterFilter(tier=letters.tier, key=b"a"))
    assert await readable() == [b"c"]
    assert await letters.states() == {"c": DeadLetterState.DEAD}
    await letters.admin.purge(letters.all)
    assert await readable() == []
    await letters.write("d")
    assert await letters.states() == {"d": DeadLetterState.DEAD}
