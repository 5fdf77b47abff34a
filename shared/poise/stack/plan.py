"""Plan: the parts of a stack according to its options, their addresses, and the environment of each worker."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from poise.errors import SetupError
from poise.stack import probe
from poise.stack.jars import ProgressListener
from poise.stack.kafka import Kafka
from poise.stack.managed_process import ManagedProcess
from poise.stack.model import ModelServer
from poise.stack.options import BUILT_IN_TIERS, DEFAULT_GATEWAY_PORT, StackOptions, custom_tier_name
from poise.stack.valkey import Valkey
from poise.stack.worker import CustomTierWorker, Worker, check_tiers

BACKENDS_VARIABLE: Final = "POISE_INFERENCE_BACKENDS"
"""The setting of the inference tier that names its model servers."""

NextPort = Callable[[], int]


@dataclass(frozen=True, slots=True)
class PartAddresses:
    """The addresses of the parts, external services included."""

    broker: str
    redis_url: str
    model_url: str | None
    """None if the environment names the model servers, or no worker needs one."""
    model_name: str | None
    gateway_url: str | None
    """The first gateway's address; None without a gateway."""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The parts to start; None = an external service is used, or none is needed."""

    kafka: Kafka | None
    valkey: Valkey | None
    model: ModelServer | None
    workers: tuple[Worker, ...]
    addresses: PartAddresses
    backends: Mapping[str, Mapping[str, Any]]
    """The inference workers' model servers, by backend name; with API keys."""

    @property
    def servers(self) -> tuple[ManagedProcess, ...]:
        """The servers that the workers need, in the order in which to stop them."""
        return tuple(part for part in (self.model, self.valkey, self.kafka) if part is not None)


def make_plan(options: StackOptions, on_progress: ProgressListener) -> StartPlan:
    """Return a plan of what to start, and where; start nothing.

    Args:
        options: The stack's options.
        on_progress: Receives a line if the gateway does not get its default port; later, a line about each slow step.

    Raises:
        SetupError: A port is taken, a tier is missing, or the environment contradicts the options.
    """
    check_tiers(tier for tier, count in options.workers.items() if count)
    next_port = _free_ports(options).__next__
    ports, external, logs = options.ports, options.external, options.directory / "logs"

    kafka = valkey = model = None
    if external.broker is None:
        port = probe.choose_port(ports.kafka or next_port(), what="Kafka", option="--port-kafka")
        log = logs / "kafka.log"
        kafka = Kafka(options.directory / "kafka", port=port, log=log, on_progress=on_progress, verify=options.verify)
    if external.redis_url is None:
        port = probe.choose_port(ports.redis or next_port(), what="Valkey", option="--port-redis")
        valkey = Valkey(options.directory / "valkey", port=port, log=logs / "redis.log")
    environment = {**os.environ, **options.environment}
    backends = _configured_backends(environment)
    if external.model_url is None and "default" not in backends and options.workers.get("inference"):
        port = probe.choose_port(ports.model or next_port(), what="the model server", option="--port-model")
        model = ModelServer(options.directory, port=port, log=logs / "model.log", model=options.model)

    gateway = _gateway_port(options, next_port, on_progress)
    addresses = PartAddresses(
        broker=kafka.bootstrap if kafka else external.broker or "",
        redis_url=valkey.url if valkey else external.redis_url or "",
        model_url=model.url if model else external.model_url,
        model_name=model.model_name if model else external.model_name,
        gateway_url=f"http://{probe.LOOPBACK}:{gateway}" if gateway else None,
    )
    added = {
        **options.environment,
        "POISE_BROKER": addresses.broker,
        "POISE_REDIS_URL": addresses.redis_url,
        "POISE_SHARED_DIR": str(options.directory.absolute()),
    }
    if model is not None:
        backends["default"] = model.backend
    elif addresses.model_url:
        key = _api_key(external.model_key_env, environment)
        backends["default"] = {"url": addresses.model_url, "model": addresses.model_name, **key}
    if backends:
        added[BACKENDS_VARIABLE] = json.dumps(backends)
    workers = (
        *_workers(options, added, gateway, next_port),
        *_custom_tier_workers(options, added, next_port),
    )
    return StartPlan(kafka, valkey, model, workers, addresses, backends)


def _workers(
    options: StackOptions, environment: Mapping[str, str], gateway: int | None, next_port: NextPort
) -> Iterator[Worker]:
    for tier in BUILT_IN_TIERS:
        for number in range(1, options.workers.get(tier, 0) + 1):
            variables = dict(environment)
            if tier == "gateway":
                port = gateway if gateway and number == 1 else next_port()
                variables |= {"POISE_GATEWAY_HOST": probe.LOOPBACK, "POISE_GATEWAY_PORT": str(port)}
            name = f"{tier}-{number}"
            directory, log = options.directory / "state" / name, options.directory / "logs" / f"{name}.log"
            yield Worker(tier, number, directory, port=next_port(), log=log, environment=variables)


def _custom_tier_workers(
    options: StackOptions, environment: Mapping[str, str], next_port: NextPort
) -> Iterator[Worker]:
    for where, count in options.custom_tiers.items():
        for number in range(1, count + 1):
            name = f"{custom_tier_name(where)}-{number}"
            directory, log = options.directory / "state" / name, options.directory / "logs" / f"{name}.log"
            yield CustomTierWorker(where, number, directory, port=next_port(), log=log, environment=environment)


def _free_ports(options: StackOptions) -> Iterator[int]:
    """Yield distinct free ports, none of them named by an option."""
    ports = options.ports
    given = {ports.kafka, ports.redis, ports.model, ports.gateway or 0}
    while True:
        port = probe.free_port(*given)
        given.add(port)
        yield port


def _gateway_port(options: StackOptions, next_port: NextPort, on_progress: ProgressListener) -> int | None:
    if not options.workers.get("gateway"):
        return None
    wanted = options.ports.gateway
    if wanted is not None:
        return probe.choose_port(wanted or next_port(), what="the gateway", option="--port-gateway")
    if probe.is_port_free(DEFAULT_GATEWAY_PORT):
        return DEFAULT_GATEWAY_PORT
    port = next_port()
    on_progress(f"port {DEFAULT_GATEWAY_PORT} is in use: the gateway listens on {port} (--port-gateway chooses)")
    return port


def _configured_backends(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the model servers that the environment already names."""
    text = environment.get(BACKENDS_VARIABLE, "{}")
    try:
        backends = json.loads(text)
    except json.JSONDecodeError as error:
        raise SetupError(f"{BACKENDS_VARIABLE} is not JSON ({error}): correct it or unset it") from error
    if not isinstance(backends, dict):
        raise SetupError(f"{BACKENDS_VARIABLE} must be a JSON object of backends by name: correct it or unset it")
    return backends


def _api_key(variable: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    if variable is None:
        return {}
    key = environment.get(variable)
    if not key:
        raise SetupError(
            f"--model-key-env names the environment variable {variable}, which is not set: set it to the API key"
        )
    return {"api_key": key}
