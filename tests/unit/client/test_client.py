from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import poise
from poise import Poise
from poise.contracts import Document
from poise.contracts.document import MAX_DOCUMENT_CHARS
from poise.errors import DeadlineExceededError, InvalidMessageError, NotAcknowledgedError, UnavailableError
from poise.settings import MeshSettings

RUN = "5d1c8c1c-0e9a-5a52-8f5b-0f6d8e3a2b11"


@pytest.fixture
def client() -> Poise:
    """Return a client that is not connected: invalid input is refused before anything is sent."""
    return Poise(settings=MeshSettings(broker="127.0.0.1:1"))


@pytest.mark.parametrize("question", ["", "  \n", "x" * 8_001])
async def test_an_invalid_question_is_refused(client: Poise, question: str) -> None:
    with pytest.raises(InvalidMessageError, match="question"):
        await client.ask(question)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_timeout_must_be_positive(client: Poise, seconds: float) -> None:
    with pytest.raises(InvalidMessageError, match="timeout"):
        await client.ask("why?", timeout=seconds)
    with pytest.raises(InvalidMessageError, match="timeout"):
        await anext(client.stream("why?", timeout=seconds))


async def test_error_states_that_the_timeout_was_limited(client: Poise, monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: Any, **__: Any) -> None:
        raise DeadlineExceededError("no reply")

    monkeypatch.setattr(client, "_mesh", SimpleNamespace(rpc=SimpleNamespace(call=call)))
    with pytest.raises(DeadlineExceededError, match=r"^no answer within 30 s$"):
        await client.ask("why?", timeout=30)
    message = r"^no answer within 300 s \(320 s were requested, and poise\.ask\.interactive allows 300 s\)$"
    with pytest.raises(DeadlineExceededError, match=message):
        await client.ask("why?", timeout=320)


async def test_a_question_that_kafka_did_not_acknowledge_is_not_reported_as_silence(
    client: Poise, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = NotAcknowledgedError("the broker did not acknowledge step ask before the deadline")

    async def call(*_: Any, **__: Any) -> None:
        raise error

    async def stream(*_: Any, **__: Any) -> AsyncIterator[None]:
        for each in (error,):
            raise each
        yield

    monkeypatch.setattr(client, "_mesh", SimpleNamespace(rpc=SimpleNamespace(call=call, stream=stream)))
    for asked in (client.ask("why?"), anext(client.stream("why?"))):
        with pytest.raises(NotAcknowledgedError) as caught:
            await asked
        assert caught.value is error


@pytest.mark.parametrize("id_", ["", "a\nb", "x" * 501])
async def test_an_invalid_id_is_refused(client: Poise, id_: str) -> None:
    with pytest.raises(InvalidMessageError, match="id"):
        await client.ingest({id_: "text"})
    with pytest.raises(InvalidMessageError, match="id"):
        await client.delete(id_)


@pytest.mark.parametrize("text", ["", " \n", "x" * (MAX_DOCUMENT_CHARS + 1)])
async def test_an_invalid_text_is_refused_and_its_document_named(client: Poise, text: str) -> None:
    with pytest.raises(InvalidMessageError, match="document 'a': text"):
        await client.ingest({"a": text})


async def test_an_oversized_document_is_refused(client: Poise) -> None:
    wide = Document(text="\N{SNOWMAN}" * 400_000, source="s")
    with pytest.raises(InvalidMessageError, match="takes 1200"):
        await client.ingest({"a": wide})


@pytest.mark.parametrize(
    ("run", "feedback", "field"),
    [
        ("r", {"thumb": "up"}, "run_id"),
        ("", {"thumb": "up"}, "run_id"),
        (RUN, {}, "thumb, rating and correction"),
        (RUN, {"comment": "Hm."}, "thumb, rating and correction"),
        (RUN, {"rating": 6}, "rating"),
        (RUN, {"thumb": "sideways"}, "thumb"),
        (RUN, {"correction": ""}, "correction"),
    ],
)
async def test_invalid_feedback_is_refused(client: Poise, run: str, feedback: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidMessageError, match=field):
        await client.feedback(run, **feedback)


async def test_a_client_that_is_not_connected_raises(client: Poise) -> None:
    with pytest.raises(UnavailableError, match="async with"):
        await client.ask("why?")


def test_a_client_ignores_worker_settings() -> None:
    settings = MeshSettings(broker="a:1", redis_url="redis://b:2", admin_port=9)
    client_settings = Poise("c:3", settings=settings).settings
    assert (client_settings.broker, client_settings.redis_url, client_settings.admin_port, client_settings.spans) == (
        "c:3",
        None,
        None,
        False,
    )


def test_the_public_names_of_the_package() -> None:
    assert all(getattr(poise, name).__name__ == name for name in poise.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        poise.nothing  # noqa: B018 - reading it is the test
