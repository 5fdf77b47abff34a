"""Search quality with the real model and part of the demo corpus: the answering passage is among the first two."""

import pydoc_data.topics
from pathlib import Path

from poise.contracts import Document, PassageRecord
from poise_services.retrieval.embedding import MiniLm
from poise_services.retrieval.index import Index
from poise_services.retrieval.passages import encode_vector, split_document
from poise_services.retrieval.version_assembler import AssembledVersion

TOPICS = ("pass", "comparisons", "try", "function", "while", "lambda", "truth", "nonlocal")

ANSWERS = {
    "What does the pass statement do?": "is a null operation",
    "What is the difference between is and ==?": "on the identity of the objects",
    "What happens in the else clause of a try statement?": "is executed if the control flow leaves",
    "How are default parameter values evaluated?": "Default parameter values are evaluated from left to right",
    "When is the else clause of a while loop executed?": 'the suite of the "else" clause, if present, is executed',
    "What is a lambda expression?": "Lambda expressions (sometimes called lambda forms)",
    "Which values are considered false?": "built-in objects considered false",
    "What does the nonlocal statement do?": "causes the listed identifiers to refer to",
}


async def test_the_answering_passage_is_among_the_first_two(tmp_path: Path) -> None:
    async with MiniLm(embedding_threads=2) as embedder:
        index = Index(tmp_path, embedder.model)
        for number, topic in enumerate(TOPICS):
            said = split_document(Document(text=pydoc_data.topics.topics[topic], source=topic))
            vectors = await embedder.embed_texts([body.embedding_text for body in said])
            parts = tuple(
                PassageRecord(
                    document=topic,
                    part=part,
                    source=topic,
                    text=body.text,
                    vector=encode_vector(vector),
                    model=embedder.model,
                    published=1.0,
                )
                for part, (body, vector) in enumerate(zip(said, vectors, strict=True))
            )
            index.replace_document(AssembledVersion(topic, 0, number, parts, 1.0))
        found = {
            question: index.search(question, await embedder.embed_query(question), limit=2, candidates=50)
            for question in ANSWERS
        }
        index.close()
    texts = {question: [" ".join(passage.text.split()) for passage in passages] for question, passages in found.items()}
    missed = {q: texts[q] for q, words in ANSWERS.items() if not any(words in text for text in texts[q])}
    assert not missed


async def test_any_query_is_accepted(tmp_path: Path) -> None:
    async with MiniLm() as embedder:
        index = Index(tmp_path, embedder.model)
        for query in ("", "?", "is", "==", "x" * 10_000, "\x00", "日本語"):
            assert index.search(query, await embedder.embed_query(query), limit=5, candidates=50) == []
        index.close()
