"""Custom tiers on a real Kafka: the documented example as processes, their topics, threads, and failures."""

import asyncio
import contextvars
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest
from integration_kit import serving, until

from poise import Poise
from poise.contracts import Message, Request, TopicOptions
from poise.contracts.custom_topics import tiers_with_dead_letters
from poise.contracts.topics import dead_letter_topic_name
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    InvalidMessageError,
    RecordTooLargeError,
    SetupError,
    UnavailableError,
)
from poise.kafka import topic_setup
from poise.settings import MeshSettings
from poise.stack import probe
from poise.stack.kafka import Kafka
from poise.worker.context import Context
from poise.worker.tier import Tier

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[3] / "docs" / "TIERS.md"
WITHIN = 40.0


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write the files of the page unchanged; return the names that they define."""
    text = PAGE.read_text(encoding="utf-8")
    files = dict(re.findall(r"`(\w+\.py)`\)?[,:]\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert list(files) == ["translation.py", "hello.py", "greetings.py"]
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("translation", "greetings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return vars(__import__("translation")) | vars(__import__("greetings"))


@asynccontextmanager
async def process(
    *command: str, broker: str, folder: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process in the folder of the page's files, which is not on its Python path; kill it at the end."""
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1] / "shared"), "POISE_BROKER": broker, **settings}
    started = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@asynccontextmanager
async def worker(
    *command: str, broker: str, folder: Path, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker process; yield it once it is ready."""
    port = probe.free_port()
    environment = {"POISE_ADMIN_PORT": str(port), "POISE_INSTANCE": f"custom-{port}", **settings}
    async with process(*command, broker=broker, folder=folder, **environment) as started:

        async def ready() -> bool:
            assert started.returncode is None, "the worker ended before it was ready"
            return await probe.http_status(f"http://127.0.0.1:{port}/readyz") == 200

        async with asyncio.timeout(WITHIN):
            await probe.poll_until_ready(ready)
        yield started


async def until_traced(run: str, tier: str, *, broker: str, folder: Path) -> None:
    """Wait until `poise trace` shows a tier in a run; spans are written shortly after the reply."""
    async with asyncio.timeout(WITHIN):
        while True:
            async with process("-m", "poise", "trace", run, broker=broker, folder=folder) as trace:
                if tier in (await trace.communicate())[0].decode():
                    return


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    text = "".join(task.read_text(encoding="utf-8") for task in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


@pytest.mark.parametrize("command", [("translation.py",), ("-m", "poise", "worker", "translation.py")])
async def test_the_example_of_the_page_works(
    kafka: str, page: dict[str, Any], tmp_path: Path, command: tuple[str, ...]
) -> None:
    translate, proofread, encipher, greet = (page[name] for name in ("Translate", "Proofread", "Encipher", "Greet"))
    async with (
        worker(*command, broker=kafka, folder=tmp_path) as first,
        worker(*command, broker=kafka, folder=tmp_path) as second,
        worker("-m", "poise", "worker", "greetings.py", broker=kafka, folder=tmp_path),
        Poise(kafka) as poise,
    ):
        async with process("hello.py", broker=kafka, folder=tmp_path) as hello:
            assert (await hello.communicate())[0] == b"hallo welt\n"
        calls = (poise.call(translate(text="hello you", language="fr")) for _ in range(50))
        assert {reply.text for reply in await asyncio.gather(*calls)} == {"bonjour you"}
        assert (await poise.call(translate(text="world", language="de"), lane="batch")).text == "welt"
        assert (await poise.call(proofread(text="hello"))).text == "Hello."
        assert (await poise.call(encipher(text="hello"))).text == "olleh"
        run = uuid4().hex
        assert (await poise.call(greet(languages=("de", "fr")), run=run)).text == "hallo, bonjour"
        if command == ("translation.py",):
            await until_traced(run, "translation", broker=kafka, folder=tmp_path)
        with pytest.raises(FaultError, match="unknown language: nl"):
            await poise.call(translate(text="hello", language="nl"))
        letters = await poise.mesh.logs.read_topic(dead_letter_topic_name("translation"))
        assert letters[-1].header("poise-dead-message") == "unknown language: nl"
        assert "translation" in tiers_with_dead_letters(await poise.mesh.admin.list_topics())

        pools = [children(started.pid) for started in (first, second)]
        assert [len(pool) for pool in pools] == [2, 2]
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.wait(), WITHIN) == 0
        assert not any(map(alive, pools[0]))
        if command != ("translation.py",):  # only once: Kafka removes a killed member after ten seconds
            second.kill()
            await until(lambda: not any(map(alive, pools[1])))


# -- topics ------------------------------------------------------------------------------------------------------------


class Echoed(Message):
    kind = "echoed/1"
    text: str


class Echo(Request[Echoed]):
    kind = "echo/1"
    reply = Echoed
    tier = "echo"
    text: str


class EchoElsewhere(Echo):
    tier = f"elsewhere-{uuid4().hex[:8]}"


async def echo(request: Echo, context: Context) -> Echoed:
    return Echoed(text=f"{request.text} {context.lane}")


async def test_a_call_to_a_tier_without_topics_fails_at_once(kafka: str) -> None:
    async with Poise(kafka) as poise:
        with pytest.raises(
            UnavailableError, match=r"elsewhere-.*interactive does not exist: start a worker of the tier"
        ):
            await poise.call(EchoElsewhere(text="x"))
        tier = Tier(EchoElsewhere.tier, {EchoElsewhere: echo}, topics=TopicOptions(partitions=3, retention=3600))
        async with serving(MeshSettings(broker=kafka), tier) as mesh:
            assert (await poise.call(EchoElsewhere(text="x"))).text == "x interactive"
            assert (await poise.call(EchoElsewhere(text="x"), lane="batch")).text == "x batch"
            states = (await mesh.admin.check(tier.custom_topics))[-len(tier.custom_topics) :]
            assert [(state.topic.name, state.differences) for state in states] == [
                (topic.name, ()) for topic in tier.custom_topics
            ]
            assert [state.partitions for state in states] == [3, 3, 3, 3, 3, 1]


async def test_a_timeout_must_be_positive(kafka: str) -> None:
    async with Poise(kafka) as poise:
        with pytest.raises(InvalidMessageError, match="timeout"):
            await poise.call(Echo(text="x"), timeout=0)


async def test_a_reply_of_three_megabytes_is_a_fault_and_others_are_answered(kafka: str) -> None:
    async def repeat(request: Echo, _context: Context) -> Echoed:
        return Echoed(text=request.text * (3_000_000 if request.text == "x" else 1))

    async with serving(MeshSettings(broker=kafka), Tier("echo", {Echo: repeat})), Poise(kafka) as poise:
        assert (await poise.call(Echo(text="small"))).text == "small"
        for _ in range(3):
            with pytest.raises(
                FaultError, match=r"of 30\d{5} bytes is larger than poise\.replies takes, .* 1048576"
            ) as no:
                await poise.call(Echo(text="x"))
            assert no.value.fault().retryable is False
        with pytest.raises(RecordTooLargeError, match=r"poise\.echo\.requests\.interactive takes"):
            await poise.call(Echo(text="y" * 3_000_000))
        calls = (poise.call(Echo(text=f"small {number}")) for number in range(50))
        assert len({reply.text for reply in await asyncio.gather(*calls)}) == 50
        async with Poise(kafka) as another:
            assert (await another.call(Echo(text="small"))).text == "small"


async def test_a_repeated_call_of_a_run_gets_the_same_reply(mesh_settings: MeshSettings) -> None:
    handled = []

    async def count(request: Echo, _context: Context) -> Echoed:
        handled.append(request.text)
        return Echoed(text=str(len(handled)))

    run = uuid4().hex
    async with serving(mesh_settings, Tier("echo", {Echo: count})), Poise(mesh_settings.broker) as poise:
        again = [(await poise.call(Echo(text="x"), run=run)).text for _ in range(2)]
        other = (await poise.call(Echo(text="x"))).text
    assert (again, other) == (["1", "1"], "2")


class Ordered(Request[Echoed]):
    kind = "ordered/1"
    reply = Echoed
    tier = "ordered"
    number: int


async def test_an_ordered_tier_handles_requests_of_a_key_one_by_one(mesh_settings: MeshSettings) -> None:
    order: list[int] = []
    first_started, first_may_end = asyncio.Event(), asyncio.Event()

    async def handle(request: Ordered, _context: Context) -> Echoed:
        if request.number == 1:
            first_started.set()
            await first_may_end.wait()
        order.append(request.number)
        return Echoed(text="")

    tier = Tier("ordered", {Ordered: handle}, topics=TopicOptions(ordered=True))
    async with serving(mesh_settings, tier), Poise(mesh_settings.broker) as poise:
        calls = [asyncio.create_task(poise.call(Ordered(number=1), key="a"))]
        await until(first_started.is_set)  # concurrent calls may be written in either order
        for number, key in ((2, "a"), (3, "b")):
            calls.append(asyncio.create_task(poise.call(Ordered(number=number), key=key)))
            await asyncio.sleep(0)
        await until(lambda: order == [3])
        first_may_end.set()
        await asyncio.gather(*calls)
    assert order == [3, 1, 2]


class KafkaWithAuthorizer(Kafka):
    """A node with an authorizer that allows everything that no ACL forbids."""

    def _properties(self) -> dict[str, str]:
        authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        rules = {"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"}
        return super()._properties() | rules


async def forbid_creating_topics(broker: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    topic, cluster, literal, prefixed, all_, create, deny, allow = 2, 4, 3, 4, 2, 5, 2, 3  # Kafka's numbers on the wire
    for kind, name, pattern in ((topic, "poise.echo.", prefixed), (cluster, "kafka-cluster", literal)):
        for operation, permission in ((all_, allow), (create, deny)):
            rule = CreateAclsRequest(kind, name, pattern, "User:ANONYMOUS", "*", operation, permission)
            response: Any = await admin._send_request(rule)
            assert [code for code, *_ in response.creation_responses] == [0]
    anything = DescribeAclsRequest(1, None, 1, None, None, 1, 1)  # type: ignore[arg-type]  # None is any name
    found: list[Any] = []
    async with asyncio.timeout(WITHIN):
        while sum(len(rules) for *_, rules in found) < 4:  # the broker learns of them after the controller
            described: Any = await admin._send_request(anything)
            found = described.resources
    await admin.close()


async def test_a_worker_that_may_not_create_topics_names_the_command(tmp_path: Path) -> None:
    async with KafkaWithAuthorizer(tmp_path / "kafka") as node:
        settings = MeshSettings(broker=node.bootstrap)
        await topic_setup.apply(settings)
        await forbid_creating_topics(node.bootstrap)
        with pytest.raises(
            SetupError,
            match=r"tier echo: poise\.echo.*Authorization failed.*: run `poise topics apply --tier",
        ):
            async with serving(settings, Tier("echo", {Echo: echo})):
                raise AssertionError("it must not start")


# -- threads -----------------------------------------------------------------------------------------------------------

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="nowhere")


async def test_plain_handlers_run_in_parallel_threads_with_their_context(mesh_settings: MeshSettings) -> None:
    together = threading.Barrier(20)

    def meet(request: Echo, context: Context) -> Echoed:
        together.wait(20)  # passes only with twenty threads at once
        return Echoed(text=f"{request.text} {context.run} {threading.current_thread().name[:5]}")

    async with serving(mesh_settings, Tier("echo", {Echo: meet}, concurrency=20)), Poise(mesh_settings.broker) as poise:
        runs = [uuid4().hex for _ in range(20)]
        replies = await asyncio.gather(*(poise.call(Echo(text="x"), run=run) for run in runs))
    assert [reply.text for reply in replies] == [f"x {run} echo-" for run in runs]


async def test_blocking_batch_work_leaves_threads_for_interactive_work(mesh_settings: MeshSettings) -> None:
    resume = threading.Event()

    def block(request: Echo, context: Context) -> Echoed:
        if context.lane == "batch":
            resume.wait(30)
        return Echoed(text=request.text)

    async with serving(mesh_settings, Tier("echo", {Echo: block}, concurrency=1)), Poise(mesh_settings.broker) as poise:
        backfill = [asyncio.create_task(poise.call(Echo(text="b"), lane="batch")) for _ in range(20)]
        try:
            assert (await poise.call(Echo(text="i"))).text == "i"
            assert not any(task.done() for task in backfill)
        finally:
            resume.set()
        await asyncio.gather(*backfill)


async def test_at_the_deadline_the_caller_gets_a_fault_and_the_thread_continues(mesh_settings: MeshSettings) -> None:
    resume, ended = threading.Event(), threading.Event()

    def block(request: Echo, context: Context) -> Echoed:
        if request.text == "block":
            resume.wait(30)
            assert context.remaining() == 0
            ended.set()
        return Echoed(text=request.text)

    async with serving(mesh_settings, Tier("echo", {Echo: block})), Poise(mesh_settings.broker) as poise:
        with pytest.raises((DeadlineExceededError, FaultError), match=r"(?i)deadline"):
            await poise.call(Echo(text="block"), timeout=0.5)
        assert (await poise.call(Echo(text="others"))).text == "others"
        resume.set()
        assert await asyncio.to_thread(ended.wait, 10)


async def test_an_exit_in_a_plain_handler_is_a_fault_and_a_dead_letter(mesh_settings: MeshSettings) -> None:
    def fail(_request: Echo, _context: Context) -> Echoed:
        sys.exit(3)

    async with serving(mesh_settings, Tier("echo", {Echo: fail})) as mesh, Poise(mesh_settings.broker) as poise:
        run = uuid4().hex
        with pytest.raises(FaultError, match=r"failed on the message \(RuntimeError\): dead letter echo/\d"):
            await poise.call(Echo(text="x"), run=run)
        letters = await mesh.logs.read_topic(dead_letter_topic_name("echo"))
    (letter,) = [letter for letter in letters if letter.header("poise-run") == run]
    assert letter.header("poise-dead-message") == "the function raised SystemExit: 3"
    assert letter.header("poise-attempt") == "2"


async def test_a_stopping_worker_waits_for_a_started_thread(mesh_settings: MeshSettings) -> None:
    started, resume = threading.Event(), threading.Event()

    def slow(request: Echo, _context: Context) -> Echoed:
        started.set()
        resume.wait(30)
        return Echoed(text=request.text)

    async with Poise(mesh_settings.broker) as poise, AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(serving(mesh_settings, Tier("echo", {Echo: slow})))
        call = asyncio.create_task(poise.call(Echo(text="x")))
        assert await asyncio.to_thread(started.wait, 20)
        mesh.stop.set()
        await until(lambda: all(consumer._draining.is_set() for consumer in mesh._consumers))
        resume.set()
        assert (await call).text == "x"
