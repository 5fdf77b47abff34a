# ruff: noqa: T201 - it prints its progress
"""Collects what retrieval finds and what the built-in model writes: `python -m tests.benchmarks.scores.collect OUT`.

Answers without a label are written to the file OUT, one JSON object a line, to be labeled by the rule of ../answers.md
and then added to ../answers.jsonl.
"""

import asyncio
import json
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

from poise.contracts import ChatMessage, PassageRecord
from poise.scoring import Evidence
from poise.stack.model import ModelServer
from poise_labs.balance.model_proxy import without_passages
from poise_labs.cli.sample_corpus import corpus
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import Variant
from poise_services.retrieval.embedding import MiniLm
from poise_services.retrieval.index import Index
from poise_services.retrieval.passages import encode_vector, passage_record_key, split_document
from poise_services.retrieval.version_assembler import AssembledVersion
from tests.benchmarks.scores.labeled import ANSWERS, FOUND, judged, passages

QUESTIONS: Final = ANSWERS.with_name("answers.toml")
PASSAGES: Final = 6
CANDIDATES: Final = 50
WITHIN: Final = 300.0
"""The timeout of one answer in seconds."""
PROMPTS: Final[Mapping[str, Callable[[str, Evidence], Sequence[ChatMessage]]]] = {
    "production": lambda asked, evidence: build_prompt(asked, evidence, 2, ""),
    "3 sentences": lambda asked, evidence: build_prompt(asked, evidence, 3, ""),
    "6 sentences": lambda asked, evidence: build_prompt(asked, evidence, 6, ""),
    "closed book": lambda asked, _evidence: closed_book(asked),
    "empty text": lambda asked, _evidence: build_prompt(asked, Evidence(()), 2, ""),
}


def closed_book(question: str) -> Sequence[ChatMessage]:
    """Return the prompt of an answer without its passages."""
    system, user = build_prompt(question, Evidence(()), 2, "")
    return system, user.model_copy(update={"content": without_passages(user.content)})


async def find(questions: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the passages that retrieval finds, best first, by question."""
    with tempfile.TemporaryDirectory() as folder:
        async with MiniLm(embedding_threads=2) as embedder:
            index = Index(Path(folder), embedder.model)
            for number, (name, document) in enumerate(corpus().items()):
                said = split_document(document)
                vectors = await embedder.embed_texts([body.embedding_text for body in said])
                parts = [
                    PassageRecord(
                        document=name,
                        part=place,
                        source=document.source,
                        heading=body.heading,
                        text=body.text,
                        vector=encode_vector(vector),
                        model=embedder.model,
                        published=1.0,
                    )
                    for place, (body, vector) in enumerate(zip(said, vectors, strict=True))
                ]
                index.replace_document(AssembledVersion(name, 0, number, tuple(parts), 1.0))
            found = {
                asked: index.search(asked, await embedder.embed_query(asked), limit=PASSAGES, candidates=CANDIDATES)
                for asked in questions
            }
            index.close()
    return {
        asked: [passage_record_key(hit.document, hit.passage_number) for hit in hits] for asked, hits in found.items()
    }


def write(backend: Mapping[str, str], messages: Sequence[ChatMessage]) -> tuple[str, str]:
    """Return the model's text and its finish reason."""
    body = {
        "model": backend["model"],
        "messages": [message.model_dump() for message in messages],
        "max_tokens": Variant(name="default").max_tokens,
        "temperature": 0.0,
    }
    headers = {"content-type": "application/json", "authorization": f"Bearer {backend['api_key']}"}
    request = Request(f"{backend['url']}/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310 - ours, on loopback
    with urlopen(request, timeout=WITHIN) as response:  # noqa: S310 - as above
        choice = json.load(response)["choices"][0]
    return choice["message"]["content"].strip(), choice["finish_reason"]


async def main(out: Path) -> None:
    """Ask all questions with every prompt."""
    questions = [entry["ask"] for entry in tomllib.loads(QUESTIONS.read_text())["question"]]
    if (found := await find(questions)) != json.loads(FOUND.read_text())["found"]:
        print(f"retrieval finds other passages than {FOUND.name} has: use these instead, and fit again")
        out.with_suffix(".passages.json").write_text(json.dumps(found, indent=0))
    known = {(case.ask, case.text) for case in judged()}
    with tempfile.TemporaryDirectory() as folder, out.open("w") as lines:
        async with ModelServer(Path(folder)) as server:
            for name, build in PROMPTS.items():
                for asked in questions:
                    messages = build(asked, Evidence(passages()[asked]))
                    text, finish = await asyncio.to_thread(write, server.backend, messages)
                    if (asked, text) not in known:
                        known.add((asked, text))
                        lines.write(
                            json.dumps({"ask": asked, "text": text, "prompts": [name], "finish": finish}) + "\n"
                        )
                print(f"{name}: asked {len(questions)} questions")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
