"""How the time that is left is divided among the steps that may still follow."""


def fair_share(left: float, others: int) -> float:
    """Return the seconds that a step may take of those left, so that each of the `others` may have as long after it.

    How long each takes is unknown, so the shares are equal, which maximizes the smallest one (max-min fairness). Time
    that a step does not use is left to those after it.
    """
    return left / (1 + max(0, others))
