"""User workflows: loaded from the modules that the settings name."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_type_hints

from poise.contracts import Answer, Ask
from poise.contracts.ask import NAME_PATTERN
from poise.errors import SetupError
from poise.worker.tier_loader import load_module
from poise.workflows.workflow import Workflow

DEFAULT_WORKFLOW: Final = "answer"
"""The built-in workflow, for an ask that names none."""
RESERVED_NAMES: Final = frozenset({DEFAULT_WORKFLOW})
"""Names of built-in workflows."""
SETTING: Final = "workflows of [orchestration]"


def load_workflows(modules: Iterable[str]) -> tuple[Workflow[Ask, Answer], ...]:
    """Load the workflows of modules, each named as `acme.workflows` or `FILE.py`.

    Raises:
        SetupError: A module cannot be imported or has no workflow, or one of its workflows does not answer an `Ask` or
            has the name of another.
    """
    loaded: dict[str, tuple[Workflow[Ask, Answer], str]] = {}
    for module in modules:
        for workflow in _workflows_in(module):
            _check(workflow, module)
            other, other_module = loaded.setdefault(workflow.name, (workflow, module))
            if workflow is not other:
                names = f"{module} and {other_module}"
                raise SetupError(f"{SETTING}: {names} both have a workflow {workflow.name!r}: rename one")
    return tuple(workflow for workflow, _ in loaded.values())


def _workflows_in(module: str) -> Iterator[Workflow[Any, Any]]:
    workflows = [value for value in vars(load_module(module)).values() if isinstance(value, Workflow)]
    if not workflows:
        raise SetupError(f'{SETTING}: {module} has no workflow: put @workflow("name") above an async function')
    yield from dict.fromkeys(workflows)


def _check(workflow: Workflow[Any, Any], module: str) -> None:
    if workflow.name in RESERVED_NAMES:
        raise SetupError(f"{SETTING}: {module}: the workflow {workflow.name!r} is built in: rename yours")
    if not re.fullmatch(NAME_PATTERN, workflow.name):
        raise SetupError(
            f"{SETTING}: {module}: the workflow name {workflow.name!r} is invalid: it must match {NAME_PATTERN}"
        )
    hints = get_type_hints(workflow.function)
    returned = hints.pop("return", Answer)
    if Ask not in hints.values() or returned != Answer:
        raise SetupError(
            f"{SETTING}: {module}: the workflow {workflow.name!r} must be `async def (run: Run, ask: Ask) -> Answer` to"
            " be asked; one for other requests is a handler of a tier of your own, as docs/WORKFLOWS.md shows"
        )
