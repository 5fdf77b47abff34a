"""External services are checked at the start: each must answer as the expected kind of server."""

import socket
from collections.abc import Iterator

import pytest

from poise.errors import SetupError
from poise.stack import external, probe
from poise.stack.options import ExternalServices

pytestmark = pytest.mark.integration


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never writes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_services_that_answer_are_accepted(kafka: str, valkey: str) -> None:
    await external.check(ExternalServices(broker=f"127.0.0.1:1,{kafka}", redis_url=valkey))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ExternalServices(broker="127.0.0.1:1"), "no Kafka answers at 127.0.0.1:1 .*--broker"),
        (ExternalServices(broker="nowhere.invalid"), "no Kafka answers at nowhere.invalid .*--broker"),
        (ExternalServices(broker="host:port"), "--broker is not an address: .*host:9092"),
        (ExternalServices(broker=""), "no address is given: .*--broker"),
        (ExternalServices(redis_url="redis://127.0.0.1:1/0"), "no Redis answers at 127.0.0.1:1 .*--redis"),
        (ExternalServices(redis_url="http://127.0.0.1:1"), "--redis accepts redis://"),
        (
            ExternalServices(redis_url="redis://:secret@host:port"),
            "--redis is not an address: .*redis://host:6379",
        ),
        (ExternalServices(model_url="http://127.0.0.1:1", model_name="m"), "no model server answers at .*--model-url"),
        (
            ExternalServices(model_url="127.0.0.1:1", model_name="m"),
            "--model-url is not an address: .*http://host:port",
        ),
        (ExternalServices(model_url="ftp://127.0.0.1", model_name="m"), "--model-url accepts http://"),
    ],
)
async def test_a_service_that_does_not_answer_is_one_clear_line(given: ExternalServices, message: str) -> None:
    with pytest.raises(SetupError, match=message) as error:
        await external.check(given)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


async def test_a_server_of_another_kind_is_refused(kafka: str, valkey: str) -> None:
    redis = valkey.removeprefix("redis://").removesuffix("/0")
    for given in (
        ExternalServices(broker=redis),
        ExternalServices(redis_url=f"redis://{kafka}/0"),
        ExternalServices(model_url=f"http://{redis}", model_name="m"),
    ):
        with pytest.raises(SetupError, match="answers at"):
            await external.check(given)


async def test_a_silent_server_is_refused_after_the_probe_timeout(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "PROBE_TIMEOUT", 0.1)
    with pytest.raises(SetupError, match="no response within"):
        await external.check(ExternalServices(broker=f"127.0.0.1:{silent_port}"))


def test_free_ports_are_outside_the_ephemeral_range() -> None:
    assert all(20_000 <= probe.free_port() < 32_000 for _ in range(20))
