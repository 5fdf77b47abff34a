"""Run records as orchestration writes them: six passages of Python's reference, and an answer from them."""

import random
import time
from collections.abc import Sequence

from poise.contracts import Answer, Draw, Generation, Passage, RunRecord
from poise.contracts.record import StepRecord
from poise.scoring.tokenization import sentences
from poise_labs.cli.sample_corpus import corpus
from poise_services.retrieval.splitting import split

PASSAGES = 6


def passages() -> list[Passage]:
    """Return all passages of the corpus in order: neighbors belong to one document."""
    return [
        Passage(
            id=f"{name}#{number}",
            source=document.source,
            heading=" › ".join(piece.heading) or None,
            text=piece.text,
            score=0.5,
            age=1.0,
        )
        for name, document in corpus().items()
        for number, piece in enumerate(split(document.text, document.format))
    ]


def records(number: int, seed: int = 1) -> Sequence[RunRecord]:
    """Return that number of records; each has an answer from a randomly drawn passage, and its neighbors."""
    chance, every = random.Random(seed), passages()
    return [_record(run, every, chance) for run in range(number)]


def _record(run: int, every: Sequence[Passage], chance: random.Random) -> RunRecord:
    place = chance.randrange(len(every) - PASSAGES)
    some = tuple(every[place : place + PASSAGES])
    text = chance.choice(sentences(some[0].text) or [some[0].text])
    about = " ".join(chance.sample(text.split(), min(4, len(text.split()))))
    variant, now = chance.choice(("steady", "cheap")), time.time()
    return RunRecord(
        run_id=f"bench-{run}",
        workflow="answer",
        tenant="default",
        question=f"What does {about} do (asked {run})?",
        started=now - 0.4,
        finished=now,
        answer=Answer(run_id=f"bench-{run}", text=text, rung="primary", variant=variant, timings={"total": 400.0}),
        draw=Draw(
            variant=variant,
            probability=0.5,
            policy="answer",
            policy_version=1,
            raw=text,
            finish_reason="stop",
            ms=300.0,
        ),
        generations=(Generation(variant=variant, raw=text, finish_reason="stop"),),
        steps=(StepRecord(step="retrieve", ms=20.0), StepRecord(step="generate", ms=300.0)),
        passages=some,
    )
