"""User workflows, loaded by file and by module. Errors say what to do."""

import sys
from pathlib import Path
from uuid import uuid4

import pytest
from scripted_run import ScriptedRun

from poise.contracts import Answer, Ask
from poise.errors import InvalidMessageError, SetupError, TerminalError
from poise.workflows.run import Run
from poise.workflows.workflow import workflow
from poise_services.orchestration.answer import AskHandler
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import OrchestrationSettings
from poise_services.orchestration.user_workflows import load_workflows

HEAD = """
from poise import Run, workflow
from poise.contracts import Answer, Ask, Retrieve

"""
BRIEF = """
@workflow("brief")
async def brief(run: Run, ask: Ask) -> Answer: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def written(folder: Path, code: str) -> str:
    """Write a file with a unique name: the lines that workflows need, then the code. Return its path."""
    place = folder / f"own_{uuid4().hex[:8]}.py"
    place.write_text(HEAD + code, encoding="utf-8")
    return str(place)


def test_workflows_are_loaded_by_file_and_module_and_an_imported_one_only_once(folder: Path) -> None:
    by_file = written(folder, BRIEF)
    name = Path(by_file).stem
    importing = written(folder, f"from {name} import brief\n" + BRIEF.replace("brief", "long"))
    assert [one.name for one in load_workflows([by_file, importing])] == ["brief", "long"]
    assert [one.name for one in load_workflows([name])] == ["brief"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1", r'has no workflow: put @workflow\("name"\) above'),
        (BRIEF + BRIEF.replace("def brief", "def other"), "both have a workflow 'brief': rename one"),
        (BRIEF.replace('"brief"', '"answer"'), "'answer' is built in: rename yours"),
        (BRIEF.replace('"brief"', '"a b"'), "the workflow name 'a b' is invalid"),
        (BRIEF.replace("ask: Ask", "ask: Retrieve"), r"'brief' must be .async def .run: Run, ask: Ask. -> Answer."),
        (BRIEF.replace("-> Answer", "-> str"), r"'brief' must be .async def .run: Run, ask: Ask. -> Answer."),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_invalid_workflows_are_rejected_at_start(folder: Path, code: str, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        load_workflows([written(folder, code)])


@pytest.mark.parametrize("where", ["no/such.py", "no_such_module_of_ours"])
def test_an_unknown_workflow_is_named(where: str) -> None:
    with pytest.raises(SetupError, match=where):
        handlers(OrchestrationSettings(workflows=(where,)))


async def test_a_fault_describes_what_is_wrong_with_an_ask_or_a_workflow() -> None:
    async def wrong(_run: Run, _ask: Ask) -> Answer:
        return "words"  # type: ignore[return-value]  # a type checker would report it

    asks = AskHandler([workflow("wrong")(wrong)])
    with pytest.raises(TerminalError, match="workflow 'wrong' returned str: return an Answer"):
        await asks.answer(Ask(question="What?", workflow="wrong"), ScriptedRun({}))  # type: ignore[arg-type]
    with pytest.raises(InvalidMessageError, match="no workflow 'other', only wrong; others are named in"):
        await asks.answer(Ask(question="What?", workflow="other"), ScriptedRun({}))  # type: ignore[arg-type]
