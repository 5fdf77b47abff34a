import asyncio

import pytest
from integration_kit import Command
from typer.testing import CliRunner, Result

from poise.cli.app import app


@pytest.fixture
def poise(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs a `poise` command in a thread; `POISE_BROKER` names the broker."""
    monkeypatch.setenv("POISE_BROKER", kafka)
    monkeypatch.setenv("COLUMNS", "100")

    async def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.stderr
        return result

    return run
