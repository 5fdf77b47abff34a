# ruff: noqa: T201 - a benchmark prints its results
"""Counts how many questions the running stack answers correctly, by rung, and which answers the check accepts.

    poise up --detach && poise demo && python tests/benchmarks/answers.py

The questions are in answers.toml; those with an even index were used for tuning, the others were not. The label of an
answer is in answers.jsonl; a reader wrote it (a right answer states the requested fact and nothing that is false). A
text without a label is compared with a regular expression. That is lenient, so these texts are listed below the table.
"""

import asyncio
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from poise.client import Poise
from poise.contracts import Answer, RunRecord
from poise.contracts.topics import RECORDS
from poise.scoring import Evidence, groundedness
from poise.stack.state import running_stack

QUESTIONS = tomllib.loads(Path(__file__).with_name("answers.toml").read_text())["question"]
JUDGED = {
    (line["ask"], line["text"]): bool(line["right"])
    for line in map(json.loads, Path(__file__).with_name("answers.jsonl").read_text().splitlines())
}
AT_ONCE = 2


async def ask(poise: Poise, question: str, places: asyncio.Semaphore) -> tuple[Answer, RunRecord]:
    """Return an answer and the record of its run."""
    async with places:
        answer = await poise.ask(question, timeout=120, cache="no-store")
    (record, *_) = await poise.mesh.logs.read_key(RECORDS.name, answer.run_id)
    return answer, RunRecord.parse(record.value or b"")


class AnswerChecker:
    """Decides whether an answer is right, and collects the texts without a label."""

    def __init__(self) -> None:
        self.unsure: list[tuple[str, str]] = []

    def __call__(self, question: Mapping[str, str], text: str) -> bool:
        known = JUDGED.get((question["ask"], text.strip()))
        if known is not None:
            return known
        self.unsure.append((question["ask"], text.strip()))
        return bool(re.search(question["right"], text, re.IGNORECASE))


async def main(broker: str | None) -> None:
    """Ask all questions and print the table."""
    places = asyncio.Semaphore(AT_ONCE)
    async with Poise(broker) as poise:
        runs = await asyncio.gather(*(ask(poise, question["ask"], places) for question in QUESTIONS))
    checker = AnswerChecker()
    for half, name in ((0, "tuned on"), (1, "held out")):
        sent: Counter[tuple[str, bool]] = Counter()
        model: Counter[tuple[bool, bool]] = Counter()
        scores: dict[bool, list[float]] = {True: [], False: []}
        for question, (answer, record) in list(zip(QUESTIONS, runs, strict=True))[half::2]:
            sent[answer.rung, checker(question, answer.text)] += 1
            if record.draw is not None and record.draw.raw is not None:
                right = checker(question, record.draw.raw)
                model[right, answer.rung == "primary"] += 1
                evidence = Evidence(record.passages)
                scores[right].append(groundedness(record.draw.raw, evidence, question=question["ask"]).score)
        total = sum(sent.values())
        print(f"{name}: {total} questions, answered right {sum(n for (_, right), n in sent.items() if right)}")
        for rung in dict.fromkeys(rung for rung, _ in sent):
            print(f"  {rung:11} right {sent[rung, True]:3}  wrong {sent[rung, False]:3}")
        print(f"  the model's text: right {model[True, True] + model[True, False]}, rejected by the check "
              f"{model[True, False]}; wrong {model[False, True] + model[False, False]}, rejected "
              f"{model[False, False]}; AUC {auc(scores[True], scores[False]):.2f}")  # fmt: skip

    for asked, text in dict.fromkeys(checker.unsure):
        print(f"judged by a regular expression: {asked} | {text}")


def auc(good: list[float], bad: list[float]) -> float:
    """Return the probability that a right answer scores above a wrong one (Mann and Whitney, 1947)."""
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad)) if good and bad else float("nan")


if __name__ == "__main__":
    stack = running_stack(Path(".poise"))
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else stack.broker if stack else "127.0.0.1:9092"))
