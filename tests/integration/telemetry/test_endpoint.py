import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from poise.errors import SetupError
from poise.telemetry.endpoint import MAX_CONNECTIONS, MAX_REQUEST_BYTES, AdminEndpoint


@pytest.fixture
async def checks() -> dict[str, bool]:
    return {"broker": True, "index": False}


@pytest.fixture
async def endpoint(checks: dict[str, bool]) -> AsyncIterator[AdminEndpoint]:
    endpoint = AdminEndpoint("127.0.0.1", 0, lambda: checks, lambda: b"poise_calls_total 3.0\n")
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


async def send(endpoint: AdminEndpoint, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(endpoint: AdminEndpoint, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await send(endpoint, f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


async def test_healthz_is_200(endpoint: AdminEndpoint) -> None:
    assert (await get(endpoint, "/healthz"))[0] == 200


async def test_readyz_is_200_if_every_check_holds(endpoint: AdminEndpoint, checks: dict[str, bool]) -> None:
    status, headers, body = await get(endpoint, "/readyz?verbose=1")
    assert (status, json.loads(body)) == (503, {"ready": False, "checks": {"broker": True, "index": False}})
    assert headers["Content-Type"] == "application/json"

    checks["index"] = True
    status, _, body = await get(endpoint, "/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)


async def test_metrics_are_in_the_prometheus_format(endpoint: AdminEndpoint) -> None:
    status, headers, body = await get(endpoint, "/metrics")
    assert (status, body) == (200, b"poise_calls_total 3.0\n")
    assert headers["Content-Type"].startswith("text/plain; version=")


async def test_other_paths_and_methods_get_an_error_status(endpoint: AdminEndpoint) -> None:
    assert (await get(endpoint, "/"))[0] == 404
    assert (await get(endpoint, "/healthz", "POST"))[0] == 405
    status, headers, body = await get(endpoint, "/healthz", "HEAD")
    assert (status, int(headers["Content-Length"]) > 0, body) == (200, True, b"")


@pytest.mark.parametrize("raw", [b"GET /healthz", b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"x" * (MAX_REQUEST_BYTES + 1)])
async def test_a_malformed_request_does_not_affect_others(endpoint: AdminEndpoint, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(raw)
    writer.write_eof()
    await reader.read()
    writer.close()

    assert (await get(endpoint, "/healthz"))[0] == 200


async def test_a_silent_client_does_not_delay_stopping(endpoint: AdminEndpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    await get(endpoint, "/healthz")
    async with asyncio.timeout(2):
        await endpoint.stop()
        assert await reader.read() == b""
    writer.close()


async def test_a_port_in_use_is_one_clear_line(endpoint: AdminEndpoint) -> None:
    other = AdminEndpoint("127.0.0.1", endpoint.port, dict)
    with pytest.raises(SetupError, match=rf"127\.0\.0\.1:{endpoint.port} is in use: free it, or set POISE_ADMIN_PORT"):
        await other.start()
    await other.stop()


async def test_an_address_that_cannot_be_bound_is_one_clear_line() -> None:
    with pytest.raises(SetupError, match="POISE_ADMIN_HOST"):
        await AdminEndpoint("192.0.2.1", 0, dict).start()


async def test_it_restarts_on_the_same_port(endpoint: AdminEndpoint) -> None:
    port = endpoint.port
    await endpoint.stop()
    await endpoint.start()
    assert endpoint.port == port


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_a_request_for_another_host_name_is_refused(endpoint: AdminEndpoint, path: str) -> None:
    answer = await send(endpoint, f"GET {path} HTTP/1.1\r\nHost: evil.example:80\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"Access-Control" not in answer


async def test_silent_connections_do_not_block_probes(endpoint: AdminEndpoint) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(2 * MAX_CONNECTIONS)]
    assert (await get(endpoint, "/healthz"))[0] == 200
    for reader, _ in silent[: MAX_CONNECTIONS - 1]:
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    for _, writer in silent:
        writer.close()
