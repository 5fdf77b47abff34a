"""Divides the remaining time among the steps that may follow."""


def fair_share(remaining: float, others: int) -> float:
    """Return the seconds of the remaining ones that a step may take, so that each of `others` after it has as many.

    How long each takes is unknown, so the shares are equal, which maximizes the smallest one (max-min fairness). Time
    that a step does not use is available to those after it.
    """
    return remaining / (1 + max(0, others))
