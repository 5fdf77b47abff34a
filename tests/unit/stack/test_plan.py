"""The parts of a stack by its options, their ports, and the environment of the workers."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.errors import SetupError
from poise.stack import plan
from poise.stack.options import ONE_WORKER_PER_TIER, ExternalServices, Ports, StackOptions
from poise.stack.plan import StartPlan

NO_GATEWAY = {**ONE_WORKER_PER_TIER, "gateway": 0}


@pytest.fixture(autouse=True)
def _every_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plan.BACKENDS_VARIABLE, raising=False)
    monkeypatch.setattr(plan, "check_tiers", list)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def make(options: StackOptions) -> StartPlan:
    return plan.make_plan(options, on_progress=lambda _line: None)


def environment_of(made: StartPlan, instance: str) -> dict[str, str]:
    return dict(next(worker for worker in made.workers if worker.instance == instance)._environment())


def test_plan_starts_every_server_that_is_not_external(tmp_path: Path) -> None:
    made = make(StackOptions(tmp_path, NO_GATEWAY))

    assert [part.name for part in made.servers] == ["model", "redis", "kafka"]
    assert [worker.instance for worker in made.workers] == [f"{tier}-1" for tier in list(ONE_WORKER_PER_TIER)[1:]]
    assert made.addresses.gateway_url is None


def test_every_part_has_its_own_port(tmp_path: Path) -> None:
    made = make(StackOptions(tmp_path, {**ONE_WORKER_PER_TIER, "gateway": 3, "inference": 20}, Ports(gateway=0)))

    ports = [part.port for part in (*made.servers, *made.workers)]
    ports += [int(environment_of(made, f"gateway-{number}")["POISE_GATEWAY_PORT"]) for number in (1, 2, 3)]
    assert len(ports) == len(set(ports)) == 33
    assert made.addresses.gateway_url == f"http://127.0.0.1:{environment_of(made, 'gateway-1')['POISE_GATEWAY_PORT']}"


def test_workers_get_the_same_variables_for_embedded_and_external_servers(tmp_path: Path) -> None:
    ours = make(StackOptions(tmp_path, NO_GATEWAY))
    theirs = make(
        StackOptions(
            tmp_path,
            NO_GATEWAY,
            external=ExternalServices(
                "kafka.example:9092", "redis://redis.example:6379/3", "https://models.example", "gpt-x"
            ),
        )
    )

    assert theirs.servers == ()
    assert environment_of(ours, "retrieval-1")["POISE_BROKER"] == ours.addresses.broker
    assert environment_of(theirs, "retrieval-1")["POISE_BROKER"] == "kafka.example:9092"
    assert environment_of(theirs, "retrieval-1")["POISE_REDIS_URL"] == "redis://redis.example:6379/3"
    assert ours.model is not None
    assert json.loads(environment_of(ours, "inference-1")[plan.BACKENDS_VARIABLE]) == {"default": ours.model.backend}
    backends = json.loads(environment_of(theirs, "inference-1")[plan.BACKENDS_VARIABLE])
    assert backends == {"default": {"url": "https://models.example", "model": "gpt-x"}}


def test_each_worker_has_its_own_name_port_and_folder(tmp_path: Path) -> None:
    made = make(StackOptions(tmp_path, {"inference": 2}))

    first, second = environment_of(made, "inference-1"), environment_of(made, "inference-2")
    assert (first["POISE_INSTANCE"], second["POISE_INSTANCE"]) == ("inference-1", "inference-2")
    assert first["POISE_ADMIN_PORT"] != second["POISE_ADMIN_PORT"]
    assert first["POISE_STATE_DIR"] == str(tmp_path / "state" / "inference-1")
    assert first["POISE_SHARED_DIR"] == second["POISE_SHARED_DIR"] == str(tmp_path)


def test_model_servers_of_the_environment_are_preserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"url": "http://127.0.0.1:1", "model": "large"}
    monkeypatch.setenv(plan.BACKENDS_VARIABLE, json.dumps({"large": large}))
    both = make(StackOptions(tmp_path, NO_GATEWAY))
    assert json.loads(environment_of(both, "inference-1")[plan.BACKENDS_VARIABLE])["large"] == large
    assert both.model is not None

    monkeypatch.setenv(plan.BACKENDS_VARIABLE, json.dumps({"default": large}))
    assert make(StackOptions(tmp_path, NO_GATEWAY)).model is None

    monkeypatch.setenv(plan.BACKENDS_VARIABLE, "{")
    with pytest.raises(SetupError, match=plan.BACKENDS_VARIABLE):
        make(StackOptions(tmp_path, NO_GATEWAY))


def test_api_key_of_the_model_server_is_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StackOptions(
        tmp_path,
        NO_GATEWAY,
        external=ExternalServices(model_url="https://m.example", model_name="m", model_key_env="KEY_OF_M"),
    )
    monkeypatch.delenv("KEY_OF_M", raising=False)
    with pytest.raises(SetupError, match="KEY_OF_M"):
        make(options)

    monkeypatch.setenv("KEY_OF_M", "secret")
    backend = json.loads(environment_of(make(options), "inference-1")[plan.BACKENDS_VARIABLE])["default"]
    assert backend["api_key"] == "secret"


@pytest.mark.parametrize(
    ("part", "option"),
    [("kafka", "--port-kafka"), ("redis", "--port-redis"), ("model", "--port-model"), ("gateway", "--port-gateway")],
)
def test_port_in_use_is_reported_in_one_line(tmp_path: Path, taken: int, part: str, option: str) -> None:
    with pytest.raises(SetupError, match=f"port {taken} .* in use: .*{option}") as error:
        make(StackOptions(tmp_path, ONE_WORKER_PER_TIER, Ports(**{part: taken})))
    assert "\n" not in str(error.value)


def test_gateway_uses_a_free_port_if_its_default_is_in_use(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "DEFAULT_GATEWAY_PORT", taken)
    said: list[str] = []

    made = plan.make_plan(StackOptions(tmp_path, {"gateway": 1}), said.append)

    assert made.addresses.gateway_url not in {None, f"http://127.0.0.1:{taken}"}
    assert "--port-gateway" in said[0]


def test_model_server_is_not_started_without_inference_workers(tmp_path: Path) -> None:
    assert make(StackOptions(tmp_path, {"evaluation": 1})).model is None


def test_secrets_of_a_tier_are_passed_only_to_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "gateway": ("POISE_GATEWAY_ADMIN_TOKEN", "of-the-gateway"),
        "inference": ("POISE_INFERENCE_BACKENDS__CLOUD__API_KEY", "of-a-model"),
        "integration": ("POISE_INTEGRATION_INTEGRATIONS__WEATHER__SECRETS", "of-an-api"),
    }
    for variable, value in secrets.values():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("POISE_SECURITY__PASSWORD", "of-the-broker")
    (tmp_path / "own.py").touch()
    options = StackOptions(
        tmp_path, {**ONE_WORKER_PER_TIER}, custom_tiers={str(tmp_path / "own.py"): 1}, ports=Ports(gateway=0)
    )
    made = make(options)
    assert made.model is not None
    key = made.model.backend["api_key"]

    assert len(made.workers) == 7
    for worker in made.workers:
        given = " ".join(worker._environment().values())
        known = {tier for tier, (_, value) in secrets.items() if value in given}
        assert known == {worker.tier} & secrets.keys()
        assert (key in given) == (worker.tier == "inference"), "the model's key, and whoever asks the model"
        assert "of-the-broker" in given
    for server in made.servers:
        given = " ".join(server._environment().values())
        assert not [value for _, value in secrets.values() if value in given]
        assert "of-the-broker" not in given
        assert (key in given) == (server is made.model)
