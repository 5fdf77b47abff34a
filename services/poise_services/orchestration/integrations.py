"""Integrations: queried at the same time as retrieval; their replies are evidence, like passages."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from poise.contracts import Ask, Fetch, Fetched, Passage
from poise.errors import FaultError, PoiseError
from poise.workflows.run import Run
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.retrieval import Retrieved, describe_error

TIME_SHARE: Final = 0.25
"""Fraction of the time for steps that an integration may take: an answer is possible without it."""
PASSAGE_ID_PREFIX: Final = "integration:"
"""Prefix of the ids of integrations' passages."""
_EMPTY_FAULT_TYPE: Final = "urn:poise:integration-empty"


async def query(names: Sequence[str], run: Run, ask: Ask, breakers: Breakers) -> list[Fetched | str]:
    """Send the question to each integration.

    Args:
        names: The integrations.
        run: The run.
        ask: The question.
        breakers: The integrations' circuit breakers.

    Returns:
        For each integration its reply, or why there is none.
    """
    return await asyncio.gather(*(_fetch(name, run, ask, breakers) for name in names))


def merge(retrieved: Retrieved, replies: Sequence[Fetched | str]) -> Retrieved:
    """Append the integrations' replies to the retrieved passages.

    A failed or empty integration is skipped and recorded in `warnings`, and so is one that replied with its last good
    result.
    """
    passages = [_passage(reply) for reply in replies if isinstance(reply, Fetched)]
    warnings = [warning for reply in replies if (warning := _warning(reply)) is not None]
    if passages and retrieved.failed and retrieved.error is not None:  # the answer is based on integrations only
        warnings.insert(0, retrieved.error)
    return replace(
        retrieved,
        passages=(*retrieved.passages, *passages),
        error=None if passages else retrieved.error,
        warnings=(*retrieved.warnings, *warnings),
    )


async def _fetch(name: str, run: Run, ask: Ask, breakers: Breakers) -> Fetched | str:
    step = f"fetch.{name}"
    request = Fetch(integration=name, parameters={"question": ask.question})
    try:
        return await run.call(
            request, id=step, timeout=TIME_SHARE * run.step_budget(), guard=partial(breakers.guarded, step)
        )
    except FaultError as error:
        fault = error.fault()
        return fault.detail if fault.type == _EMPTY_FAULT_TYPE else describe_error(f"integration {name}", error)
    except PoiseError as error:
        return describe_error(f"integration {name}", error)


def _passage(reply: Fetched) -> Passage:
    return Passage(
        id=f"{PASSAGE_ID_PREFIX}{reply.integration}#0", source=reply.source, text=reply.text, score=0.0, age=reply.age
    )


def _warning(reply: Fetched | str) -> str | None:
    """Return why there is no reply, or why it is an old one; None if it is current."""
    if isinstance(reply, str):
        return reply
    if reply.reason is None:
        return None
    return f"integration {reply.integration}: its reply of {reply.age:.0f} s ago is used instead: {reply.reason}"
