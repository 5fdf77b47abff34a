"""docker-compose.yml and the image definition agree with the rest of the repository."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from poise.settings import MeshSettings
from poise.stack import jars, plan
from poise.stack.kafka import MAX_TRANSACTION_MS
from poise.stack.model_server import API_KEY_VARIABLE, DEFAULT_MODEL, MIN_KEY_LENGTH, PATH_PREFIX
from poise.stack.options import BUILT_IN_TIERS, INTEGRATIONS_VARIABLE
from poise_services.orchestration.settings import OrchestrationSettings

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_every_tier_is_a_service_of_the_one_image_definition(services: dict[str, Any]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for tier in BUILT_IN_TIERS:
        build = services[tier]["build"]
        assert build == {"context": ".", "dockerfile": "infra/docker/Dockerfile", "args": {"TIER": tier}}
        assert tier in extras
    assert services["model"]["build"]["args"]["TIER"] in extras


def test_every_tier_can_be_scaled(services: dict[str, Any]) -> None:
    assert all("container_name" not in service for service in services.values())
    assert {name for name, service in services.items() if "ports" in service} == {"kafka", "gateway"}
    assert all(port.startswith("127.0.0.1:") for name in ("kafka", "gateway") for port in services[name]["ports"])


def test_transaction_timeout_equals_that_of_the_embedded_broker(services: dict[str, Any]) -> None:
    assert services["kafka"]["environment"]["KAFKA_TRANSACTION_MAX_TIMEOUT_MS"] == MAX_TRANSACTION_MS


def test_workers_start_after_the_services_they_depend_on(services: dict[str, Any]) -> None:
    for tier in BUILT_IN_TIERS:
        assert services[tier]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "valkey": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        }
    assert services["topics"]["command"] == ["poise", "topics", "apply"]


def test_every_setting_in_the_compose_file_exists(services: dict[str, Any]) -> None:
    known = {f"POISE_{name.upper()}" for name in MeshSettings.model_fields}
    given = {name for tier in BUILT_IN_TIERS for name in services[tier]["environment"]}
    given |= set(re.findall(r"POISE_\w+(?==)", DOCKERFILE))
    own = {"POISE_GATEWAY_HOST", "POISE_GATEWAY_ALLOWED_HOSTS", "POISE_INFERENCE_BACKENDS", INTEGRATIONS_VARIABLE}
    own |= {"POISE_ORCHESTRATION_INTEGRATIONS"}
    assert given - known == own
    assert "integrations" in OrchestrationSettings.model_fields
    assert services["integration"]["profiles"] == ["integration"]  # idle unless an integration is configured
    assert DEFAULT_MODEL in services["inference"]["environment"]["POISE_INFERENCE_BACKENDS"]


def test_orchestration_workers_share_the_draw_secret(services: dict[str, Any]) -> None:
    (volume,) = services["orchestration"]["volumes"]
    name, _, folder = volume.partition(":")
    assert name in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    assert f"POISE_STATE_DIR={folder} " in DOCKERFILE
    assert not {"POISE_SHARED_DIR", "POISE_ORCHESTRATION_DRAW_SECRET"} & services["orchestration"]["environment"].keys()


def test_containers_run_the_embedded_version_of_kafka(services: dict[str, Any]) -> None:
    (version,) = [jar.version for jar in jars.load_jar_list() if jar.artifact == "kafka_2.13"]
    assert services["kafka"]["image"] == f"apache/kafka:{version}"
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_image_copies_only_existing_files_that_dockerignore_allows() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied - {"README.md"})


def test_model_server_and_inference_share_one_api_key(services: dict[str, Any]) -> None:
    key = services["model"]["environment"][API_KEY_VARIABLE]
    assert f'"api_key": "{key}"' in services["inference"]["environment"]["POISE_INFERENCE_BACKENDS"]
    assert len(key.partition(":-")[2]) > MIN_KEY_LENGTH
    for said in (
        services["model"]["healthcheck"]["test"][-1],
        services["inference"]["environment"][plan.BACKENDS_VARIABLE],
    ):
        assert f":8081{PATH_PREFIX}/" in said
