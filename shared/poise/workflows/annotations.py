"""RunAnnotations: what a workflow adds to its run record besides the question and the answer."""

from dataclasses import dataclass, field

from poise.contracts.record import Draw, Generation
from poise.contracts.retrieve import Passage


@dataclass(slots=True)
class RunAnnotations:
    """Filled in while the workflow runs; see `poise.contracts.RunRecord` for the meaning of each field."""

    draw: Draw | None = None
    cached: bool = False
    generations: list[Generation] = field(default_factory=list)
    passages: tuple[Passage, ...] = ()
