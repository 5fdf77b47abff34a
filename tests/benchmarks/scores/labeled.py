"""Labeled answers, and the passages that evaluation has for each of them."""

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
from poise_services.orchestration.run_record import MAX_PASSAGE_CHARS
from poise_services.retrieval.passages import passage_record_key, split_document

ANSWERS: Final = Path(__file__).parents[1] / "answers.jsonl"
FOUND: Final = Path(__file__).with_name("passages.json")
"""The ids of the passages that retrieval found, best first, by question."""
WITHOUT: Final = ("closed book", "empty text")
"""Prompts without passages."""


@dataclass(frozen=True, slots=True)
class LabeledAnswer:
    """One answer and its label."""

    ask: str
    text: str
    right: bool
    kind: str
    """`the model's`, or the name of its edit."""
    finish: str = "stop"
    doubtful: bool = False
    prompts: tuple[str, ...] = ()
    """The prompts of the answer; none if it was collected before prompts were recorded."""

    @property
    def with_passages(self) -> bool:
        """Return whether the prompt had passages."""
        return not self.prompts or any(prompt not in WITHOUT for prompt in self.prompts)


def judged() -> list[LabeledAnswer]:
    """Return the labeled answers of the small model, each text to a question once."""
    return [
        LabeledAnswer(
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


def cases_of_prompt(prompt: str) -> list[LabeledAnswer]:
    """Return the answers to one prompt, one for each question."""
    return [case for case in judged() if prompt in case.prompts]


@cache
def passages() -> Mapping[str, tuple[Passage, ...]]:
    """Return the passages by question as in a run record."""
    parts = {
        passage_record_key(name, number): (document.source, body)
        for name, document in corpus().items()
        for number, body in enumerate(split_document(document))
    }
    stored = json.loads(FOUND.read_text())
    found = {
        ask: tuple(
            Passage(id=key, source=source, heading=body.heading, text=body.text[:MAX_PASSAGE_CHARS], score=1.0, age=0.0)
            for key in keys
            for source, body in [parts[key]]
        )
        for ask, keys in stored["found"].items()
    }
    if digest(found.values()) != stored["digest"]:
        raise SystemExit(f"the labels are of the reference of Python {stored['python']}: run this with that version")
    return found


def digest(found: Iterable[tuple[Passage, ...]]) -> str:
    """Return a digest that identifies the passages of one version of Python's reference."""
    return hashlib.sha256("\x00".join(one.text for some in found for one in some).encode()).hexdigest()[:16]


def record(case: LabeledAnswer) -> RunRecord:
    """Return the record of a run with this answer."""
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


def scored(cases: Iterable[LabeledAnswer]) -> list[dict[str, float]]:
    """Return the scores of evaluation for each answer."""
    return [score_run(record(case)).values for case in cases]
