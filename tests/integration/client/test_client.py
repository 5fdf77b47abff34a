from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from small_mesh import answering

from poise import FaultError, Poise
from poise.contracts import Answer, Delta, Document, Epoch, Reset
from poise.contracts.topics import DOCUMENTS
from poise.errors import DeadlineExceededError, SetupError
from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def poise(kafka: str) -> AsyncIterator[Poise]:
    async with answering(MeshSettings(broker=kafka)), Poise(kafka) as client:
        yield client


async def test_a_question_is_answered(poise: Poise) -> None:
    answer = await poise.ask("what now?", conversation="c")
    assert (answer.text, answer.rung) == ("you asked: what now?", "primary")


async def test_text_is_streamed_before_the_answer(poise: Poise) -> None:
    *events, answer = [item async for item in poise.stream("stream", conversation="c")]
    assert isinstance(answer, Answer)
    reset = events.index(Reset(reason="not grounded", rung="extractive"))
    after = events[reset + 1 :]
    assert all(isinstance(item, Delta) for item in (*events[:reset], *after))
    assert "".join(item.text for item in after if isinstance(item, Delta)) == answer.text == "you asked: stream"


async def test_an_error_of_a_stream_is_raised(poise: Poise) -> None:
    with pytest.raises(FaultError, match="nobody answers that"):
        [item async for item in poise.stream("refuse")]
    with pytest.raises(DeadlineExceededError, match=r"no answer within 0\.5 s"):
        [item async for item in poise.stream("sleep", timeout=0.5)]


async def test_the_minimum_epoch_is_sent_with_a_question(poise: Poise) -> None:
    epoch = Epoch("topic", {0: (1, 1.0)})
    assert (await poise.ask("x", min_epoch=epoch)).epoch == epoch.encode()
    assert (await poise.ask("x", min_epoch=epoch.encode())).epoch == epoch.encode()


async def test_a_fault_is_raised_unchanged(poise: Poise) -> None:
    with pytest.raises(FaultError) as raised:
        await poise.ask("refuse")
    assert raised.value.fault().status == 400


async def test_a_call_ends_at_its_timeout(poise: Poise) -> None:
    with pytest.raises((DeadlineExceededError, FaultError)):
        await poise.ask("sleep", timeout=0.5)


async def test_documents_are_published_under_their_ids(poise: Poise) -> None:
    one, two = uuid4().hex, uuid4().hex
    document = Document(text="the second", source="Book two", format="markdown")
    epoch = await poise.ingest({one: "the first", two: document})
    [first] = await poise.mesh.logs.read_key(DOCUMENTS.name, one)
    [second] = await poise.mesh.logs.read_key(DOCUMENTS.name, two)
    assert Document.parse(first.value or b"") == Document(text="the first", source=one)
    assert Document.parse(second.value or b"") == document
    assert epoch == await poise.epoch_of([first.position, second.position]) or epoch.reached(
        await poise.epoch_of([first.position, second.position])
    )
    assert epoch.topic_id == await poise.mesh.logs.topic_id(DOCUMENTS.name)

    after = await poise.delete(one)
    assert [record.value for record in await poise.mesh.logs.read_key(DOCUMENTS.name, one)][-1] is None
    assert not epoch.reached(after)


async def test_many_documents_are_published(poise: Poise) -> None:
    prefix = uuid4().hex
    epoch = await poise.ingest({f"{prefix}/{number}": f"text {number}" for number in range(100)})
    assert set(epoch.partitions) == set(range(DOCUMENTS.partitions))


async def test_a_missing_broker_is_one_clear_error() -> None:
    with pytest.raises(SetupError, match=r"no Kafka broker answers at 127\.0\.0\.1:1.*poise up"):
        async with Poise("127.0.0.1:1"):
            pass
