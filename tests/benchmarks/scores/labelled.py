"""Labelled: answers that were judged one by one, and the passages that evaluation sees beside each of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from poise.contracts import Draw, Passage, RunRecord
from poise_labs.cli.sample_corpus import corpus
from poise_services.evaluation.run_scores import score_run
from poise_services.orchestration.run_record import MAX_PASSAGE_CHARACTERS
from poise_services.retrieval.passages import passage_record_key, split_document

ANSWERS: Final = Path(__file__).parents[1] / "answers.jsonl"
FOUND: Final = Path(__file__).with_name("passages.json")
"""By question, the ids of what the retrieval tier found for it, best first."""
WITHOUT: Final = ("closed book", "empty text")
"""Prompts that hold no passages."""


@dataclass(frozen=True, slots=True)
class Case:
    """One answer, and whether it is right."""

    ask: str
    text: str
    right: bool
    kind: str
    """Whose it is: the model's, or the edit that it was made by."""
    finish: str = "stop"
    doubtful: bool = False
    prompts: tuple[str, ...] = ()
    """Those that the model wrote it to; none for those that were collected before prompts were written down."""

    @property
    def with_passages(self) -> bool:
        """Whether the model was given any."""
        return not self.prompts or any(prompt not in WITHOUT for prompt in self.prompts)


def judged() -> list[Case]:
    """The answers of the small model that were judged, each text to a question once."""
    return [
        Case(
            ask=line["ask"],
            text=line["text"],
            right=line["right"],
            kind="the model's",
            prompts=tuple(line.get("prompts", ())),
            finish=line.get("finish", "stop"),
            doubtful=line.get("doubtful", False),
        )
        for line in map(json.loads, ANSWERS.read_text().splitlines())
    ]


def asked(prompt: str) -> list[Case]:
    """The answers to one prompt, one for each question that was asked with it."""
    return [case for case in judged() if prompt in case.prompts]


@cache
def passages() -> Mapping[str, tuple[Passage, ...]]:
    """By question, what retrieval found, as a run's record has it."""
    parts = {
        passage_record_key(name, number): (document.source, body)
        for name, document in corpus().items()
        for number, body in enumerate(split_document(document))
    }
    stored = json.loads(FOUND.read_text())
    found = {
        ask: tuple(
            Passage(
                id=key, source=source, heading=body.heading, text=body.text[:MAX_PASSAGE_CHARACTERS], score=1.0, age=0.0
            )
            for key in keys
            for source, body in [parts[key]]
        )
        for ask, keys in stored["found"].items()
    }
    if digest(found.values()) != stored["digest"]:
        raise SystemExit(f"the labels are of the reference of Python {stored['python']}: run this with that version")
    return found


def digest(found: Iterable[tuple[Passage, ...]]) -> str:
    """What tells the passages of one Python's reference from another's."""
    return hashlib.sha256("\x00".join(one.text for some in found for one in some).encode()).hexdigest()[:16]


def record(case: Case) -> RunRecord:
    """The record of a run that the answer is of."""
    draw = Draw(
        variant="small", probability=1.0, policy="answer", policy_version=1, raw=case.text, finish_reason=case.finish
    )
    return RunRecord(
        run_id="run",
        workflow="answer",
        tenant="public",
        question=case.ask,
        started=0.0,
        finished=1.0,
        draw=draw,
        passages=passages()[case.ask],
    )


def scored(cases: Iterable[Case]) -> list[dict[str, float]]:
    """What evaluation thinks of each of them."""
    return [score_run(record(case)).values for case in cases]
