"""An answer has the same score in every process, whatever the order of its sets."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCORES = """
from pydoc_data.topics import topics
from poise.contracts import Passage
from poise.scoring import Evidence, extract_sentences, groundedness, relevance
from poise.scoring.tokenization import sentences

for name in sorted(topics):
    evidence = Evidence([Passage(id=f"{name}#0", source=name, text=topics[name][:2_000], score=1.0, age=0.0)])
    for sentence in sentences(topics[name][:2_000])[:6]:
        found = groundedness(sentence, evidence)
        relevant, lines = relevance(sentence, evidence, name), extract_sentences(name, evidence, 2)
        print(repr(found.score), repr(relevant), found.citations, lines)
"""


def scores(hash_seed: int) -> str:
    """Return what a process with the given hash seed, and so the given order of sets, prints."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-c", SCORES]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_scores_do_not_depend_on_the_order_of_sets() -> None:
    first = scores(1)
    assert first.count("\n") > 100
    assert [seed for seed in (2, 12, 14, 22) if scores(seed) != first] == []
