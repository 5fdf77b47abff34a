"""A job: what a worker under test is told to do, and the bodies that it is given."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Literal, Self

from poise.contracts.retrieve import Passages, Retrieve

KILOBYTE = 1_000
REPLY = Passages(passages=(), epoch="x" * 940)
"""About as large as a request."""


@dataclass(frozen=True, slots=True)
class Job:
    """One worker's task, as JSON on its command line."""

    contestant: str
    bootstrap: str
    topic: str
    group: str
    expect: int
    """Reported when so many are handled, and again after as many more."""
    skip: int = 0
    """Of these, how many are for warming up."""
    work: Literal["noop", "timed", "echo"] = "noop"
    concurrency: int = 64
    telemetry: bool = False

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """From JSON."""
        return cls(**json.loads(text))


def request(pause: float = 0.0, *, scheduled: float | None = None) -> Retrieve:
    """A request of 1 KB that is to be handled for `pause` seconds, and was to be sent at `scheduled` (unix seconds)."""
    at = time.time() if scheduled is None else scheduled
    return Retrieve(query=f"{at:.6f} {pause:.3f} ".ljust(KILOBYTE - 20, "x"))


def terms(query: str) -> tuple[float, float]:
    """When a request was to be sent, and for how long it is to be handled."""
    scheduled, pause, _ = query.split(" ", 2)
    return float(scheduled), float(pause)


def headers(number: int, *, within: float = 290.0) -> list[tuple[str, bytes]]:
    """The headers of a request between tiers, for every contestant alike."""
    return [
        ("content-type", b"application/json"),
        ("poise-kind", b"retrieve/1"),
        ("poise-run", f"run-{number:012d}".encode()),
        ("poise-step", b"retrieve"),
        ("poise-tenant", b"default"),
        ("poise-deadline", str(round((time.time() + within) * 1_000)).encode()),
    ]
