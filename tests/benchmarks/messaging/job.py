"""The job of a worker under test, and the messages that it handles."""

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
    """The task of one worker, passed as JSON on its command line."""

    contestant: str
    bootstrap: str
    topic: str
    group: str
    expect: int
    """The worker reports after each group of this many messages."""
    skip: int = 0
    """How many of these are for warm-up."""
    work: Literal["noop", "timed", "echo"] = "noop"
    concurrency: int = 64
    telemetry: bool = False

    def encode(self) -> str:
        """Encode the job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Decode a job from JSON."""
        return cls(**json.loads(text))


def request(pause: float = 0.0, *, scheduled: float | None = None) -> Retrieve:
    """Return a request of 1 KB with a handling time of `pause` seconds, scheduled at `scheduled` (unix seconds)."""
    at = time.time() if scheduled is None else scheduled
    return Retrieve(query=f"{at:.6f} {pause:.3f} ".ljust(KILOBYTE - 20, "x"))


def terms(query: str) -> tuple[float, float]:
    """Return the scheduled time of a request, and its handling time."""
    scheduled, pause, _ = query.split(" ", 2)
    return float(scheduled), float(pause)


def headers(number: int, *, within: float = 290.0) -> list[tuple[str, bytes]]:
    """Return the headers of a request between tiers, the same for every contestant."""
    return [
        ("content-type", b"application/json"),
        ("poise-kind", b"retrieve/1"),
        ("poise-run", f"run-{number:012d}".encode()),
        ("poise-step", b"retrieve"),
        ("poise-tenant", b"default"),
        ("poise-deadline", str(round((time.time() + within) * 1_000)).encode()),
    ]
