"""Tests with a missing tool are skipped with the reason, or fail if tools are required."""

import pytest
from marked_tools import REQUIRED, TOOLS, lacking


@pytest.mark.parametrize("marker", TOOLS)
def test_every_tool_is_a_registered_marker(marker: str, pytestconfig: pytest.Config) -> None:
    assert any(line.startswith(f"{marker}:") for line in pytestconfig.getini("markers"))


@pytest.mark.parametrize("marker", [marker for marker, tool in TOOLS.items() if tool.commands])
def test_a_missing_tool_is_named(marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert TOOLS[marker].commands[0] in str(lacking({marker, "integration"}))
    assert lacking({"integration"}) is None


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_missing_tool_skips_or_fails_the_test(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    request.node.add_marker(pytest.mark.callgrind)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(REQUIRED, required)
    with pytest.raises(outcome, match="callgrind: valgrind not on the PATH"):
        request.config.hook.pytest_runtest_setup(item=request.node)
