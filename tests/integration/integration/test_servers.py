"""Real HTTP servers that send nothing, reject, fail, hang or send garbage: each case has one error."""

import asyncio
import gzip
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from http_kit import HANG, http_response, scripted_server

from poise.errors import DeadlineExceededError, PoiseError, RateLimitedError
from poise.telemetry import semconv
from poise.telemetry.metrics import observations
from poise_services.integration.api_clients import ApiClients
from poise_services.integration.api_errors import (
    ApiFailedError,
    ApiRefusedError,
    CircuitOpenError,
    EmptyResponseError,
    UnknownIntegrationError,
)
from poise_services.integration.settings import IntegrationSettings

QUESTION = {"question": "Rain & wind?"}
OK = http_response("200 OK", b'{"today": {"text": "It rains."}}')


def one(base: str, **more: Any) -> ApiClients:
    api = {"url": f"{base}/v1?q={{question}}", "pointer": "/today/text", **more}
    return ApiClients(IntegrationSettings.model_validate({"integrations": {"weather": api}}))


async def ask(apis: ApiClients, given: Mapping[str, str] = QUESTION, remaining: float = 30) -> str:
    return await apis.get("weather").fetch(given, remaining=remaining)


async def test_the_request_follows_the_settings() -> None:
    more = {
        "method": "POST",
        "headers": {"Authorization": "Bearer {key}"},
        "secrets": {"key": "s3cret&"},
        "body": {"about": "{question}"},
    }
    async with scripted_server(OK) as server:
        async with one("", **{**more, "url": f"{server.url}/of/{{place}}?q={{question}}&key={{key}}"}) as apis:
            assert await ask(apis, {**QUESTION, "place": "a/b"}) == "It rains."
        ((line, headers, body),) = server.requests
    assert line == "POST /of/a%2Fb?q=Rain%20%26%20wind%3F&key=s3cret%26 HTTP/1.1"
    assert "authorization: bearer s3cret&" in headers
    assert "content-type: application/json" in headers
    assert json.loads(body) == {"about": "Rain & wind?"}


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http_response("200 OK", b""), EmptyResponseError, "answered 200 with nothing in it"),
        (http_response("204 No Content", b""), EmptyResponseError, "answered 204 with nothing in it"),
        (http_response("200 OK", b"{}"), EmptyResponseError, "answered 200 with nothing in it"),
        (http_response("200 OK", b'{"today": {}}'), EmptyResponseError, "nothing"),
        (
            http_response("200 OK", b'{"today": {"text": "", "id": 1}}'),
            EmptyResponseError,
            "nothing in it at /today/text",
        ),
        (http_response("200 OK", b'{"tomorrow": 1}'), EmptyResponseError, "nothing at /today/text"),
        (http_response("200 OK", b"<html>"), ApiFailedError, "that is not JSON"),
        (http_response("200 OK", b"x" * 2_000), ApiRefusedError, "more than 1000 bytes"),
        (
            http_response("200 OK", gzip.compress(b"x" * 20_000_000), "content-encoding: gzip"),
            ApiRefusedError,
            "more than",
        ),
        (http_response("200 OK", b"no gzip", "content-encoding: gzip"), ApiFailedError, "the body is not valid gzip"),
        (http_response("500 Oops", b"oops"), ApiFailedError, "answered 500: oops"),
        (http_response("503 Busy", b"", "retry-after: 7"), ApiFailedError, "answered 503: without a reason"),
        (http_response("429 Slow", b"slow", "retry-after: 7"), RateLimitedError, "answered 429: slow"),
        (http_response("404 No", b"no such place"), ApiRefusedError, "answered 404: no such place"),
        (
            http_response("302 Found", b"", "location: http://127.0.0.1:1/"),
            ApiRefusedError,
            "redirects are not followed",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ApiFailedError, "gave no answer: RemoteProtocolError"),
        (b"", ApiFailedError, "gave no answer"),
    ],
)
async def test_each_failure_has_one_error(answer: bytes, error: type[PoiseError], says: str) -> None:
    async with scripted_server(answer) as server, one(server.url, max_bytes=1_000, concurrency=1) as apis:
        with pytest.raises(error, match=says) as caught:
            await ask(apis)
        assert len(server.requests) == 1
    assert not caught.value.dead_letter
    if b"retry-after" in answer:
        assert caught.value.fault().retry_after == 7.0


async def test_secrets_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    more = {"headers": {"X-Key": "{key}", "Authorization": "Basic dXNlcjpwdw=="}, "secrets": {"key": "s3cret&"}}
    message = b"key s3cret& or s3cret%26 and dXNlcjpwdw== are wrong"
    answer = http_response("200 OK", json.dumps({"today": {"text": f"You sent {message.decode()}"}}).encode())
    with caplog.at_level(logging.DEBUG):
        async with scripted_server(http_response("401 No", message), answer) as server, one(server.url, **more) as apis:
            with pytest.raises(ApiRefusedError, match=r"key \*\*\* or \*\*\* and \*\*\* are wrong"):
                await ask(apis)
            assert await ask(apis) == "You sent key *** or *** and *** are wrong"
    shown = caplog.text
    assert not [secret for secret in ("s3cret", "dXNlcjpwdw") if secret in shown]


async def test_escaped_secrets_are_redacted() -> None:
    more = {"headers": {"Authorization": "Bearer {key}"}, "secrets": {"key": 'a/b"c'}}
    slashes, numbers = rb"You sent a\/b\"c", b"You sent " + b"".join(b"\\u%04x" % byte for byte in b'a/b"c')
    answer = [http_response("200 OK", b'{"today": {"text": "%b"}}' % text) for text in (slashes, numbers)]
    async with scripted_server(*answer, http_response("401 No", slashes)) as server, one(server.url, **more) as apis:
        assert [await ask(apis) for _ in answer] == ["You sent ***"] * 2
        with pytest.raises(ApiRefusedError, match=r"You sent \*\*\*$"):
            await ask(apis)


async def test_a_hanging_server_is_abandoned_at_its_timeout_and_its_connection_closed() -> None:
    async with scripted_server(HANG) as server, one(server.url, timeout=0.2, concurrency=1) as apis:
        for _ in range(2):  # the only slot was released
            with pytest.raises(ApiFailedError, match=r"did not answer within 0\.2 s: see its timeout"):
                await ask(apis)
        await asyncio.wait_for(server.disconnected.wait(), 10)


async def test_a_hanging_server_leaves_time_for_the_fallback() -> None:
    async with scripted_server(HANG) as server, one(server.url) as apis:
        with pytest.raises(DeadlineExceededError, match=r"within 0\.18 s: the deadline of the ask left no more time"):
            await ask(apis, remaining=0.2)


def resting() -> list[float]:
    return [value for value, attributes in observations(semconv.INTEGRATION_OPEN) if attributes]


async def test_repeated_failures_open_the_circuit_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "poise_services.integration"):
        async with scripted_server(http_response("500 Oops", b"")) as server, one(server.url) as apis:
            assert resting() == [0.0]
            for _ in range(5):
                with pytest.raises(ApiFailedError):
                    await ask(apis)
            for _ in range(3):
                message = r"failed repeatedly and is skipped for another \d s: integration weather answered 500"
                with pytest.raises(CircuitOpenError, match=message) as caught:
                    await ask(apis)
            assert len(server.requests) == 5
            assert resting() == [1.0]
            fault = caught.value.fault()
    assert (fault.type, fault.retryable) == ("urn:poise:unavailable", True)
    assert 0 < (fault.retry_after or 0) <= 2
    (logged,) = [record.message for record in caplog.records if record.name.startswith("poise_services")]
    where = f"integration weather at {server.url.removeprefix('http://')}"
    assert logged == f"{where} fails and is skipped for a while: integration weather answered 500: without a reason"
    assert resting() == []


async def test_a_rate_limit_opens_the_circuit_for_its_retry_after() -> None:
    slow = http_response("429 Slow", b"", "retry-after: 900000")
    async with scripted_server(slow) as server, one(server.url) as apis:
        with pytest.raises(RateLimitedError):
            await ask(apis)
        with pytest.raises(CircuitOpenError, match=r"for another (300|299) s"):
            await ask(apis)
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [http_response("200 OK", b"{}"), http_response("404 No", b"")], ids=["empty", "404"])
async def test_empty_and_rejected_responses_do_not_open_the_circuit(answer: bytes) -> None:
    async with scripted_server(answer) as server, one(server.url) as apis:
        for _ in range(8):
            with pytest.raises((EmptyResponseError, ApiRefusedError)):
                await ask(apis)
        assert len(server.requests) == 8


async def test_concurrency_is_limited() -> None:
    async with scripted_server(HANG) as server, one(server.url, concurrency=2, timeout=30) as apis:
        asking = [asyncio.create_task(ask(apis, remaining=remaining)) for remaining in (30.0, 30.0, 1.0, 1.0)]
        ended = await asyncio.gather(*asking[2:], return_exceptions=True)  # the others still hold the slots
        assert {type(error) for error in ended} == {DeadlineExceededError}
        assert len(server.requests) == 2
        for one_asking in asking:
            one_asking.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_an_unknown_integration_is_named() -> None:
    async with one("http://127.0.0.1:9") as apis:
        with pytest.raises(UnknownIntegrationError, match="no integration 'whether', only weather"):
            apis.get("whether")
