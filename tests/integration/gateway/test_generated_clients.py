"""The published schemas in third-party tools, and clients generated from them.

Each client is generated from the document of a running gateway, compiled, and makes the same calls over a real socket
to a small mesh on a real Kafka. The programs are in `tests/clients/`; `make tools` installs what they need.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_process import running_gateway
from marked_tools import INSTALLED, ROOT
from small_mesh import answering

from poise.kafka.asyncapi_document import asyncapi_document, body_schemas
from poise.settings import MeshSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

CLIENTS = ROOT / "tests" / "clients"
NODE = INSTALLED / "node"
CAME = {
    "answer": ["you asked: Why?", "primary", False, 1],
    "same_run": True,
    "accepted": ["shelf/one", "shelf/two", "shelf/one"],
    "noted": True,
    "status": "finished",
    "problem": [400, "urn:poise:invalid", ["question"]],
    "missing": [404, "urn:poise:not-found"],
}


async def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed; return its output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{Path(command[0]).name}: {output.decode()[-6_000:]}"
    return output.decode()


@asynccontextmanager
async def gateway(settings: MeshSettings, folder: Path) -> AsyncIterator[str]:
    """Start a gateway and a mesh that answers; write its document to the folder as `openapi.json`."""
    async with answering(settings), running_gateway(settings.broker) as (_, client):
        (folder / "openapi.json").write_bytes((await client.get("/openapi.json")).content)
        yield str(client.base_url).rstrip("/")


def last_line(output: str) -> object:
    return json.loads(output.strip().splitlines()[-1])


@pytest.mark.node
async def test_a_typescript_client(mesh_settings: MeshSettings, tmp_path: Path) -> None:
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(CLIENTS / "node" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    tools = NODE / "node_modules" / ".bin"
    async with gateway(mesh_settings, tmp_path) as url:
        await run(tools / "openapi-typescript", "openapi.json", "-o", "schema.d.ts", cwd=tmp_path)
        await run(tools / "tsc", cwd=tmp_path)
        assert last_line(await run("node", "client.js", url, cwd=tmp_path)) == CAME


@pytest.mark.python_client
async def test_a_python_client(mesh_settings: MeshSettings, tmp_path: Path) -> None:
    shutil.copy(CLIENTS / "python" / "client.py", tmp_path)
    tools = INSTALLED / "python-client" / "bin"
    generate = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path", "poise_client"]
    config = ["--config", str(CLIENTS / "python" / "config.yaml"), "--fail-on-warning"]
    async with gateway(mesh_settings, tmp_path) as url:
        await run(tools / "openapi-python-client", *generate, *config, cwd=tmp_path)
        assert last_line(await run(tools / "python", "client.py", url, cwd=tmp_path)) == CAME


@pytest.mark.java
async def test_a_java_client(mesh_settings: MeshSettings, tmp_path: Path) -> None:
    jars = INSTALLED / "java"
    [generator] = jars.glob("openapi-generator-cli-*.jar")
    path = ":".join(str(jar) for jar in jars.glob("*.jar") if jar != generator)
    generate = ["generate", "-i", "openapi.json", "-g", "java", "-o", "made"]
    only = "models,apis,supportingFiles,modelDocs=false,apiDocs=false,modelTests=false,apiTests=false"
    async with gateway(mesh_settings, tmp_path) as url:
        await run("java", "-jar", generator, *generate, f"--global-property={only}", cwd=tmp_path)
        sources = (tmp_path / "made" / "src" / "main").rglob("*.java")
        await run(
            "javac", "-nowarn", "-d", "out", "-cp", path, *sources, CLIENTS / "java" / "PlainCalls.java", cwd=tmp_path
        )
        assert last_line(await run("java", "-cp", f"out:{path}", "PlainCalls", url, cwd=tmp_path)) == CAME


@pytest.mark.node
async def test_the_documents_pass_third_party_linters(mesh_settings: MeshSettings, tmp_path: Path) -> None:
    (tmp_path / "asyncapi.json").write_text(json.dumps(asyncapi_document("1")), encoding="utf-8")
    spectral = NODE / "node_modules" / ".bin" / "spectral"
    async with gateway(mesh_settings, tmp_path):
        pass
    for document in ("openapi", "asyncapi"):
        rules = CLIENTS / "node" / f"{document}.spectral.yaml"
        await run(spectral, "lint", "--fail-severity", "warn", "-r", rules, f"{document}.json", cwd=tmp_path)


@pytest.mark.node
async def test_every_body_schema_is_valid_in_ajvs_strict_mode(tmp_path: Path) -> None:
    (tmp_path / "bodies.json").write_text(json.dumps(body_schemas()), encoding="utf-8")
    shutil.copy(CLIENTS / "node" / "validate.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    assert await run("node", "validate.mjs", "bodies.json", cwd=tmp_path) == ""
