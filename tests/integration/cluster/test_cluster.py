"""Three brokers, under load: leaders change, one is killed, all are restarted; each call has one outcome, an answer."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cluster_kit import IDS, Cluster, cluster
from load_kit import Load, load, replies

from poise.contracts.topics import INFERENCE_INTERACTIVE, REPLIES

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TOPICS = (INFERENCE_INTERACTIVE.name, REPLIES.name, "__consumer_offsets")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def brokers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    began = time.monotonic()
    async with cluster(tmp_path_factory.mktemp("cluster")) as found:
        say(f"the cluster serves, its topics in three copies, after {time.monotonic() - began:.1f} s")
        yield found


def say(line: str) -> None:
    print(line)  # noqa: T201 - figures for the reader of the test's output


async def check(at: Load, brokers: Cluster, since: float) -> None:
    """Every call was answered, with its own answer; and nothing but answers to calls was written."""
    await at.finish()
    assert at.failed == {}
    assert len(at.outcomes) == at.accepted
    again = sum(at.handled.values()) - len(at.handled)
    written = await replies(brokers.bootstrap, since)
    assert len(written) == at.accepted
    say(f"{at.accepted} calls, each answered; {again} handled again, {written.total() - len(written)} replies repeated")


async def test_leaders_change(brokers: Cluster) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        await brokers.restart(1)
        before = {topic: await brokers.leaders(topic) for topic in TOPICS}
        assert all(1 not in leaders.values() for leaders in before.values())
        await at.goes_on()
        began = time.monotonic()
        await brokers.prefer()
        await at.goes_on(300)
        say(f"preferred leaders elected: longest pause of handling {at.longest_pause(began):.2f} s")
        for topic in TOPICS:
            assert 1 in (await brokers.leaders(topic)).values(), topic
        await check(at, brokers, since)


@pytest.mark.parametrize("leads", TOPICS)
async def test_a_broker_is_killed_and_restarted(brokers: Cluster, leads: str) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        victim = (await brokers.leaders(leads))[0]
        began = time.monotonic()
        await brokers.kill(victim)
        await at.goes_on(300)
        killed = at.longest_pause(began)
        began = time.monotonic()
        await brokers.nodes[victim].start()
        await brokers.whole()
        await at.goes_on()
        say(
            f"broker {victim} of {leads} killed: longest pause of handling {killed:.2f} s; started: {at.longest_pause(began):.2f} s"
        )
        await check(at, brokers, since)
    await brokers.prefer()


async def test_all_are_restarted_one_after_the_other(brokers: Cluster) -> None:
    since = time.time()
    async with load(brokers.bootstrap) as at:
        for id_ in IDS:
            began = time.monotonic()
            await brokers.restart(id_)
            await at.goes_on()
            say(f"broker {id_} restarted: longest pause of handling {at.longest_pause(began):.2f} s")
        await check(at, brokers, since)
