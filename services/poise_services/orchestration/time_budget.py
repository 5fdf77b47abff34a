"""Divides the remaining time among the steps that may follow."""


def fair_share(remaining: float, others: int) -> float:
    """Return the step's equal share of the remaining seconds: each of the `others` steps after it may take as long.

    How long each takes is unknown, so the shares are equal, which maximizes the smallest one (max-min fairness). Time
    that a step does not use is available to those after it.
    """
    return remaining / (1 + max(0, others))
