"""The table of scenarios: what fails, and which questions are asked."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal

from poise.contracts.ask import Caching
from poise_labs.drill.environment import DrillEnvironment

Questions = Literal["before", "new", "changed"]
"""Questions that were asked before, or new ones; `changed`: asked before, and cited documents have changed since."""

NEW: Final = "new"
BEFORE: Final = "before"
CHANGED: Final = "changed"


@dataclass(frozen=True, slots=True)
class DrillScenario:
    """One failure, and the questions that are asked while it lasts."""

    fails: str
    """What fails, as shown in the table."""
    breaks: Callable[[DrillEnvironment], AbstractAsyncContextManager[None]]
    """The context in which it fails."""
    questions: Questions = BEFORE
    """Which questions are asked. New ones are used in one scenario only."""
    cache: Caching | None = "no-cache"
    """The cache option of the asks: with the cache, questions asked before would need no other part."""
    ahead: bool = False
    """Ask for an epoch that the index never reaches (`poise-min-epoch`)."""
    rounds: int = 1
    """How often they are asked; the last round counts."""
    timeout: float = 30.0
    """The timeout of each ask, in seconds."""


def _nothing(_: DrillEnvironment) -> AbstractAsyncContextManager[None]:
    return nullcontext()


NOTHING: Final = DrillScenario("nothing", _nothing)
"""The baseline. Its questions are those that the other scenarios call `before`."""

SCENARIOS: Final = (
    DrillScenario("nothing; from the cache", _nothing, cache=None),
    DrillScenario("the primary model", lambda environment: environment.without("model")),
    DrillScenario("all models", DrillEnvironment.without_models, NEW, cache=None),
    DrillScenario("retrieval", lambda environment: environment.without("retrieval-1"), timeout=10),
    DrillScenario("retrieval", lambda environment: environment.without("retrieval-1"), NEW, timeout=10),
    DrillScenario(
        "retrieval, a while later", lambda environment: environment.without("retrieval-1"), rounds=3, timeout=10
    ),
    DrillScenario("Redis", lambda environment: environment.without("redis")),
    DrillScenario("evaluation", lambda environment: environment.without("evaluation-1")),
    DrillScenario("nothing; with an integration", DrillEnvironment.with_integration),
    DrillScenario("integration: an empty 200", lambda environment: environment.with_integration(empty=True)),
    DrillScenario("integration: no worker", DrillEnvironment.without_integration_worker, timeout=10),
    DrillScenario("index: behind the asked epoch", _nothing, ahead=True, timeout=10),
    DrillScenario("all models", DrillEnvironment.without_models, CHANGED, cache=None),
)
"""In this order: the last one changes documents, which makes cached answers stale."""
