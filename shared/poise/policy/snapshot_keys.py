"""The keys of a policy's snapshot whose stored names differ from the names in the code.

Snapshots are records of `poise.policy.state`. A changed key would make existing snapshots unreadable.
"""

from typing import Final

# of a decider
SCORES_OFFSET: Final = "scores"
VERSIONS: Final = "history"
LAST_DECISION_NUMBER: Final = "number"
ANSWERS_COUNTED: Final = "counted"
SEEN_RUNS: Final = "seen"
EXECUTED_COMMANDS: Final = "commands"
INCIDENTS: Final = "troubles"

# of an incident
NEXT_STEP_AT: Final = "due"
ANNOUNCED: Final = "told"
RESTORE_ANNOUNCED: Final = "offered"
RESTORING: Final = "returning"

# of detectors
ANSWERS: Final = "number"
E_DETECTORS: Final = "bets"
HISTORICAL_BOUNDS: Final = "levels"
LOSS_BEFORE_ALARM: Final = "was"
SCORED_VARIANTS: Final = "known"
COUNTS: Final = "tally"
