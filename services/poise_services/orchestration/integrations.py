"""Consulting: integrations are asked beside retrieval, and what they say is evidence like any passage."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from poise.contracts import Ask, Fetch, Fetched, Passage
from poise.errors import FaultError, PoiseError
from poise.workflows.run import Run
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.retrieval import Retrieved, describe_error

TIME_SHARE: Final = 0.25
"""The share of the time for steps in which an integration must answer: there are answers without it."""
PASSAGE_ID_PREFIX: Final = "integration:"
"""How the ids of such passages begin."""
_EMPTY: Final = "urn:poise:integration-empty"


async def query(
    names: Sequence[str], run: Run, ask: Ask, retrieving: Awaitable[Retrieved], breakers: Breakers
) -> Retrieved:
    """What retrieval finds and, behind it, what each integration says.

    One that fails, or has nothing to say, is gone on without, and `degraded` says so; so it does of one whose last good
    answer stands in.

    Args:
        names: The integrations to ask.
        run: The run.
        ask: The question.
        retrieving: Under way beside them.
        breakers: Which of them are left alone.
    """
    found, said = await asyncio.gather(
        retrieving, asyncio.gather(*(_fetch(name, run, ask, breakers) for name in names))
    )
    passages = [_passage(one) for one in said if isinstance(one, Fetched)]
    warnings = [note for one in said if (note := one if isinstance(one, str) else _age(one)) is not None]
    if passages and found.failed and found.error is not None:  # it is answered from the integrations alone
        warnings.insert(0, found.error)
    return replace(
        found,
        passages=(*found.passages, *passages),
        error=None if passages else found.error,
        warnings=(*found.warnings, *warnings),
    )


async def _fetch(name: str, run: Run, ask: Ask, breakers: Breakers) -> Fetched | str:
    """What it says, or in words why it says nothing."""
    step = f"fetch.{name}"
    request = Fetch(integration=name, parameters={"question": ask.question})
    try:
        return await run.call(
            request, id=step, timeout=TIME_SHARE * run.for_steps(), guard=partial(breakers.guarded, step)
        )
    except FaultError as error:
        fault = error.fault()
        return fault.detail if fault.type == _EMPTY else describe_error(f"integration {name}", error)
    except PoiseError as error:
        return describe_error(f"integration {name}", error)


def _passage(said: Fetched) -> Passage:
    return Passage(
        id=f"{PASSAGE_ID_PREFIX}{said.integration}#0", source=said.source, text=said.text, score=0.0, age=said.age
    )


def _age(said: Fetched) -> str | None:
    if said.reason is None:
        return None
    return f"integration {said.integration}: what it said {said.age:.0f} s ago stands in: {said.reason}"
