"""The policy file: what a person sets, read from TOML; what is wrong is told with its line.

It is the same file that `POISE_CONFIG` names: names and weights stand in `[[orchestration.variants]]`, where else the
variants are described, and what the loop may do in `[policy]`.

    [orchestration]
    policy = "answer"            # its name; "answer" by default

    [[orchestration.variants]]
    name = "steady"
    weight = 0.9

    [[orchestration.variants]]
    name = "cheap"
    weight = 0.1

    [policy]
    explore = 0.05               # the least share that each keeps
    step = 0.5                   # the largest change of one share in one decision
    quiet_answers = 50_000       # answers between false alarms, on average
    low = 0.6                    # the range: the least mean of the score that steers
    latency = 4.0                # seconds for 95 % of a variant's answers
    cost = 0.002                 # for 95 % of them
"""

from pathlib import Path

from poise.contracts.policy import PolicySpec


def read(path: Path) -> PolicySpec:
    """Read a policy file.

    Raises:
        SetupError: It cannot be read, or says what cannot be: `FILE:LINE: what, and why`, one line for each fault.
    """
    raise NotImplementedError
