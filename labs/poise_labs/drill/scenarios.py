"""The table of scenarios: what fails, and what is asked meanwhile."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal

from poise.contracts.ask import Caching
from poise_labs.drill.environment import DrillEnvironment

Questions = Literal["before", "new", "changed"]
"""Questions that were asked before or not; `changed`: documents that their answers rest on have changed since."""

NEW: Final = "new"
BEFORE: Final = "before"
CHANGED: Final = "changed"


@dataclass(frozen=True, slots=True)
class DrillScenario:
    """One failure, and the questions that are asked while it lasts."""

    fails: str
    """What fails, in words."""
    breaks: Callable[[DrillEnvironment], AbstractAsyncContextManager[None]]
    """Broken as long as it is open."""
    questions: Questions = BEFORE
    """Which are asked. New ones are new in one scenario alone."""
    cache: Caching | None = "no-cache"
    """What the asks say of the answer cache: without it, questions asked before need no part that could fail."""
    ahead: bool = False
    """Ask for a document that the index does not come to (`poise-min-epoch`)."""
    rounds: int = 1
    """How often they are asked; the last time counts."""
    timeout: float = 30.0
    """Seconds that an asker waits."""


def _nothing(_: DrillEnvironment) -> AbstractAsyncContextManager[None]:
    return nullcontext()


NOTHING: Final = DrillScenario("nothing", _nothing)
"""What the others are compared with. Its questions are the ones that were asked before, in those that follow."""

SCENARIOS: Final = (
    DrillScenario("nothing; from the cache", _nothing, cache=None),
    DrillScenario("the primary model", lambda ground: ground.without("model")),
    DrillScenario("all models", DrillEnvironment.without_models, NEW, cache=None),
    DrillScenario("retrieval", lambda ground: ground.without("retrieval-1"), timeout=10),
    DrillScenario("retrieval", lambda ground: ground.without("retrieval-1"), NEW, timeout=10),
    DrillScenario("retrieval, a while later", lambda ground: ground.without("retrieval-1"), rounds=3, timeout=10),
    DrillScenario("Redis", lambda ground: ground.without("redis")),
    DrillScenario("evaluation", lambda ground: ground.without("evaluation-1")),
    DrillScenario("nothing; integration asked", DrillEnvironment.consulting),
    DrillScenario("integration: an empty 200", lambda ground: ground.consulting(empty=True)),
    DrillScenario("integration: no worker", DrillEnvironment.without_the_integration, timeout=10),
    DrillScenario("index: behind what is asked", _nothing, ahead=True, timeout=10),
    DrillScenario("all models", DrillEnvironment.without_models, CHANGED, cache=None),
)
"""In the order in which they are practised: the last one changes documents, so that what is cached is stale."""
