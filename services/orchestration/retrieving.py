"""Retrieving, with its own ladder: by meaning and words → by words alone → passages found earlier → nothing."""

from dataclasses import dataclass

from poise.contracts import Ask, Passage, Passages, Retrieve, Search
from poise.errors import FaultError, PoiseError
from poise.runs import Run


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What there is to answer from."""

    passages: tuple[Passage, ...] = ()
    epoch: str | None = None
    mode: Search = "none"
    trouble: str | None = None
    """Why there is nothing, in words."""
    degraded: tuple[str, ...] = ()
    """What did less than it should, in words."""


async def retrieve(run: Run, ask: Ask, limit: int) -> Retrieved:
    """Find the passages that an ask is answered from."""
    try:
        found = await run.call(Retrieve(query=ask.question, limit=limit), id="retrieve")
    except PoiseError as error:
        return Retrieved(trouble=in_words("retrieval", error))
    return _retrieved(found)


def _retrieved(found: Passages) -> Retrieved:
    trouble = None if found.passages else "retrieval found nothing"
    degraded = (f"retrieval: {found.reason}",) if found.reason else ()
    return Retrieved(found.passages, found.epoch, found.mode, trouble, degraded)


def in_words(step: str, error: PoiseError) -> str:
    """Why a step brought nothing, for the reader of an answer."""
    if isinstance(error, FaultError):
        fault = error.fault()
        return f"{step} failed: {fault.title.lower()}: {fault.detail}"
    return f"{step} failed: {error}"
