"""RunAnnotations: what a workflow adds to the record of its run, beside the question and the answer."""

from dataclasses import dataclass, field

from poise.contracts.record import Draw, Generation
from poise.contracts.retrieve import Passage


@dataclass(slots=True)
class RunAnnotations:
    """Filled in while the workflow goes; see `poise.contracts.RunRecord` for what each means."""

    draw: Draw | None = None
    cached: bool = False
    generations: list[Generation] = field(default_factory=list)
    passages: tuple[Passage, ...] = ()
