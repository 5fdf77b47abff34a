"""The embedded Kafka reports in one line why it cannot start, and deletes a modified cache."""

from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack.kafka import Kafka
from poise.stack.kafka_runtime import KafkaRuntime
from poise.stack.valkey import Valkey

pytestmark = pytest.mark.integration


async def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    async with Valkey(tmp_path / "valkey") as other:
        with pytest.raises(SetupError, match=f"port {other.port} for Kafka is in use: .*--port-kafka"):
            await Kafka(tmp_path / "kafka", port=other.port).start()


async def test_a_first_start_without_a_network_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")

    with pytest.raises(SetupError, match=r"could not be downloaded .*connect to the network.*--broker") as error:
        await Kafka(tmp_path / "kafka").start()

    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache" / "poise" / "kafka").iterdir()) == []


def test_a_modified_aot_cache_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = KafkaRuntime.prepare(lambda _line: None)
    cached = {path.name: path for path in runtime.store.directory.glob("*.jar")}
    own = tmp_path / "cache" / "poise" / "kafka"
    own.mkdir(parents=True)
    for name, path in cached.items():
        (own / name).hardlink_to(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runtime = KafkaRuntime.prepare(lambda _line: None)
    messages: list[str] = []
    source = tmp_path / "source"
    source.write_bytes(b"an archive")
    runtime.store_file(source, runtime.archive)
    assert KafkaRuntime.prepare(messages.append).archive.exists()
    assert messages == []

    with runtime.archive.open("ab") as archive:
        archive.write(b", or is it")

    assert not KafkaRuntime.prepare(messages.append).archive.exists()
    assert "is damaged" in messages[0]
