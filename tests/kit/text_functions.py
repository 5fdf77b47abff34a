"""The public functions that read text from outside, each as a function of one text, for tests with hostile texts."""

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from unittest.mock import patch

import httpx2
from fastapi import Request

from poise.cli.dlq_view import hexdump, render_body
from poise.cli.scores import parse_period as span_of
from poise.cli.text import clean
from poise.config import toml_lines
from poise.contracts import (
    ChatMessage,
    Completion,
    Document,
    Envelope,
    Epoch,
    Generate,
    Passage,
    RunRecord,
    Usage,
    json_bounds,
)
from poise.contracts.custom_topics import find_topic, tiers_with_dead_letters
from poise.contracts.message import strip_bom
from poise.contracts.run_id import is_run_id, run_started_at
from poise.contracts.topics import dead_letter_tier
from poise.dead_letters.filter import parse_duration as seconds_of_span
from poise.dead_letters.filter import parse_rate
from poise.ingestion.document_files import DocumentFile, source_name
from poise.kafka import offset_metadata
from poise.kafka.offset_commits import decode_commit
from poise.policy import policy_file
from poise.redis.passage_store import normalize_query as normalized_query
from poise.redis.passage_store import passage_key
from poise.resilience.retry_after import parse_retry_after, retry_after_seconds
from poise.scoring import degenerate, tokenization
from poise.scoring.evidence import Evidence
from poise.scoring.extraction import extract_sentences
from poise.scoring.groundedness import Groundedness, groundedness
from poise.scoring.quality import quality, quality_features
from poise.scoring.relevance import relevance
from poise.scoring.semantic import compare_by_meaning
from poise.telemetry.semconv.spans import call_span
from poise.telemetry.tracing import extract as extract_trace
from poise.text.log_lines import escape_control
from poise.text.markdown import open_fence, parse_heading
from poise.text.public_text import redact_addresses
from poise.text.unicode_forms import nfkc
from poise_labs.balance.model_proxy import without_passages
from poise_services.evaluation.run_scores import digest, score_run
from poise_services.gateway.event_stream import prefers_event_stream
from poise_services.gateway.languages import preferred_language
from poise_services.gateway.request_options import RequestOptions
from poise_services.inference.chat import CompletionAssembler, parse_completion, request_body
from poise_services.inference.provider_errors import error_for_response
from poise_services.inference.settings import Backend
from poise_services.inference.sse import iter_event_data
from poise_services.integration.api_errors import error_for_status as refusal_of_api
from poise_services.integration.response_text import extract_text, is_empty
from poise_services.integration.template import dot_segment_placeholders, fill, fill_url, placeholders
from poise_services.orchestration.answer_check import check
from poise_services.orchestration.cache_keys import document_id, normalize_question
from poise_services.orchestration.canned import choose_text, language_ranges
from poise_services.orchestration.prompt import build_prompt
from poise_services.orchestration.settings import CannedText, LadderSettings
from poise_services.retrieval import headings, passages, splitting
from poise_services.retrieval.sparse import SparseEncoder

Reader = Callable[[str], object]

SLOW: Final = "text_functions:slow"
_SLOW: Final = re.compile(r"\s+x")
QUESTION: Final = "When does the loop end, and what is Name.a_b(1.1)?"
PASSAGE: Final = (
    "The loop does not end, unless it is told so. No. 1a! It ends when a_b() or Name.a_b(1.1) are called. A. B. "
    "Loops never end. a a a a a a a a a a a a. It is not so - in no case is it. "
) * 6
ANSWER: Final = "The loop ends when Name.a_b(1.1) is called. It does not end otherwise, A. a a a a."
_GROUNDED: Final = Groundedness(1.0, (), ())
_BACKEND: Final = Backend.model_validate({"url": "http://127.0.0.1:1", "model": "m"})
_WORDS: Final = SparseEncoder()
_CANNED: Final = (CannedText(text="Nothing."),)


class _Vector:
    """Replaces a vector: the cost of comparing vectors is not measured here."""

    def __matmul__(self, _: object) -> float:
        return 0.5


def evidence(*texts: str) -> Evidence:
    """Return the evidence of passages with these texts."""
    return Evidence([Passage(id=f"d#{n}", source="s", text=one, score=1.0, age=0.0) for n, one in enumerate(texts)])


def completed(said: str) -> Completion:
    """Return a model's completion with this text."""
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    return Completion(text=said, model="m", backend="default", finish_reason="stop", usage=usage)


def record(*, question: str = QUESTION, answer: str = ANSWER, passage: str = PASSAGE) -> RunRecord:
    """Return the record of a finished run."""
    said: dict[str, Any] = {
        "run_id": "r",
        "workflow": "answer",
        "tenant": "default",
        "lane": "interactive",
        "question": question,
        "started": 1.0,
        "finished": 2.0,
        "answer": {"run_id": "r", "text": answer, "rung": "primary"},
        "passages": [{"id": "d#0", "source": "s", "text": passage, "score": 1.0, "age": 0.0}],
        "draw": {"variant": "v", "probability": 1.0, "policy": "answer", "policy_version": 1, "raw": answer},
    }
    return RunRecord.model_validate(said)


def reply(said: str) -> bytes:
    """Return the complete response of a model server."""
    return json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).encode()


def _streamed(said: str) -> object:
    completing = CompletionAssembler("default", _BACKEND)
    data = json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]})
    for event in event_data(f"data: {data}\n\n".encode()):
        completing.add_event(event)
    return completing.completion()


def event_data(raw: bytes) -> list[bytes]:
    """Return the data of the server-sent events of a body that arrives in pieces."""
    pieces = [raw[start : start + 61] for start in range(0, len(raw), 61)]

    async def read() -> list[bytes]:
        response = httpx2.Response(200, content=arriving(pieces), request=httpx2.Request("POST", "http://model"))
        return [data async for data in iter_event_data(response, 2 * len(raw) + 2)]

    return asyncio.run(read())


async def arriving(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body."""
    for piece in pieces:
        yield piece


def _events(said: str) -> object:
    return event_data(said.encode(errors="replace"))


def _policy(said: str) -> object:
    with tempfile.NamedTemporaryFile("w", suffix=".toml", errors="replace", newline="") as file:
        file.write(said)
        file.flush()
        return policy_file.read(Path(file.name))


def _with_few_values(said: str) -> None:
    with patch.object(json_bounds, "MAX_VALUES", 10):
        json_bounds.check_value_count(said, "it")


FUNCTIONS: Final[Mapping[str, tuple[Reader, ...]]] = MappingProxyType(
    {
        SLOW: (_SLOW.search,),  # shows that a slow function is detected
        "poise.redis.passage_store:passage_key": (lambda said: passage_key("t", said, 6),),
        "poise.redis.passage_store:normalize_query": (normalized_query,),
        "poise.cli.dlq_view:render_body": (
            lambda said: render_body(said.encode(errors="replace")),
            lambda said: render_body(json.dumps([said, said.split()]).encode()),
        ),
        "poise.cli.dlq_view:hexdump": (lambda said: hexdump(said.encode(errors="replace")),),
        "poise.ingestion.document_files:source_name": (
            lambda said: source_name(DocumentFile(Path("a.md"), "a.md", "markdown"), said),
        ),
        "poise.cli.scores:parse_period": (span_of,),
        "poise.cli.text:clean": (clean,),
        "poise.contracts.envelope:Envelope.read": (
            lambda said: Envelope.read([("tracestate", said[:8_000].encode(errors="replace"))] * (len(said) // 1_000)),
            lambda said: Envelope.read([(word, b"1") for word in said.split()]),
        ),
        "poise.contracts.epoch:Epoch.decode": (Epoch.decode,),
        "poise.contracts.json_bounds:check_value_count": (
            lambda said: _with_few_values(said + "," * 11),
            lambda said: _with_few_values("," * 11 + said),
        ),
        "poise.contracts.message:Message.parse": (
            Document.parse,
            lambda said: Document.parse(json.dumps({"text": said, "source": "s"}), strict=True),
            lambda said: Document.parse(json.dumps(dict.fromkeys(said.split(), said[:9])), strict=True),
        ),
        "poise.contracts.message:strip_bom": (strip_bom,),
        "poise.contracts.topics:dead_letter_tier": (lambda said: dead_letter_tier(f"poise.{said}.requests.batch"),),
        "poise.text.log_lines:escape_control": (escape_control,),
        "poise.kafka.offset_commits:decode_commit": (lambda said: decode_commit(1, said),),
        "poise.text.public_text:redact_addresses": (
            lambda said: redact_addresses(said, "host"),
            lambda said: redact_addresses(f"('{said}', 1", "host"),
        ),
        "poise.telemetry.semconv.spans:call_span": (call_span,),
        "poise_services.gateway.event_stream:prefers_event_stream": (
            lambda said: prefers_event_stream(
                Request({"type": "http", "headers": [(b"accept", said.encode(errors="replace"))]})
            ),
        ),
        "poise.contracts.custom_topics:tiers_with_dead_letters": (
            lambda said: tiers_with_dead_letters([f"poise.{said}.dead"]),
        ),
        "poise.contracts.custom_topics:find_topic": (find_topic, lambda said: find_topic(f"poise.{said}.dead")),
        "poise.contracts.run_id:is_run_id": (is_run_id,),
        "poise.contracts.run_id:run_started_at": (run_started_at,),
        "poise.text.markdown:open_fence": (lambda said: [open_fence(line, "`" * 50) for line in said.split("\n")],),
        "poise.text.markdown:parse_heading": (
            parse_heading,
            lambda said: parse_heading(f"# {said}"),
            lambda said: parse_heading(f"#{said} #"),
        ),
        "poise.dead_letters.filter:parse_rate": (parse_rate,),
        "poise.dead_letters.filter:parse_duration": (seconds_of_span,),
        "poise.kafka.offset_metadata:decode": (lambda said: offset_metadata.decode(0, said),),
        "poise.policy.policy_file:read": (_policy,),
        "poise.resilience.retry_after:retry_after_seconds": (
            lambda said: retry_after_seconds({"retry-after-ms": said}, 0.0),
        ),
        "poise.resilience.retry_after:parse_retry_after": (lambda said: parse_retry_after(said, 0.0),),
        "poise.config.toml_lines:key_lines": (toml_lines.key_lines,),
        "poise.config.toml_lines:line_of_syntax_error": (toml_lines.line_of_syntax_error,),
        "poise.scoring.degenerate:is_empty": (degenerate.is_empty,),
        "poise.scoring.degenerate:is_looping": (degenerate.is_looping,),
        "poise.scoring.degenerate:is_refusal": (degenerate.is_refusal,),
        "poise.scoring.degenerate:is_truncated": (lambda said: degenerate.is_truncated(said, "length"),),
        "poise.scoring.evidence:Evidence": (
            lambda said: evidence(said).lines,
            lambda said: evidence(*[said[start : start + 100] for start in range(0, len(said), 100)]).mentions("x"),
        ),
        "poise.scoring.extraction:extract_sentences": (
            lambda said: extract_sentences(QUESTION, evidence(PASSAGE, said), 3),
            lambda said: extract_sentences(said, evidence(PASSAGE), 3),
        ),
        "poise.scoring.groundedness:groundedness": (
            lambda said: groundedness(said, evidence(PASSAGE, said[:500]), question=QUESTION),
            lambda said: groundedness(f"{ANSWER} {said[:200]}", evidence(PASSAGE, said), question=QUESTION),
            lambda said: groundedness(ANSWER, evidence(PASSAGE), question=said),
        ),
        "poise.scoring.semantic:compare_by_meaning": (
            lambda said: compare_by_meaning(said, evidence(PASSAGE), QUESTION, lambda _: _Vector()),  # type: ignore[arg-type,return-value]
            lambda said: compare_by_meaning(ANSWER, evidence(said), QUESTION, lambda _: _Vector()),  # type: ignore[arg-type,return-value]
        ),
        "poise.scoring.quality:quality_features": (lambda said: quality_features(said, _GROUNDED, 1.0),),
        "poise.scoring.quality:quality": (lambda said: quality(said, _GROUNDED, 1.0),),
        "poise.scoring.relevance:relevance": (
            lambda said: relevance(said, evidence(PASSAGE), QUESTION),
            lambda said: relevance(ANSWER, evidence(said), QUESTION),
            lambda said: relevance(ANSWER, evidence(PASSAGE), said),
        ),
        "poise.scoring.tokenization:checkable_facts": (tokenization.checkable_facts,),
        "poise.scoring.tokenization:collapse_whitespace": (tokenization.collapse_whitespace,),
        "poise.scoring.tokenization:is_negated": (tokenization.is_negated,),
        "poise.scoring.tokenization:sentences": (tokenization.sentences,),
        "poise.scoring.tokenization:stem": (tokenization.stem,),
        "poise.scoring.tokenization:stems": (tokenization.stems,),
        "poise.scoring.tokenization:words": (tokenization.words,),
        "poise.telemetry.tracing:extract": (
            lambda said: extract_trace({"traceparent": said}),
            lambda said: extract_trace({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": said}),
            lambda said: extract_trace({"baggage": said}),
        ),
        "poise.text.unicode_forms:nfkc": (nfkc,),
        "poise_services.evaluation.run_scores:digest": (digest,),
        "poise_services.evaluation.run_scores:score_run": (
            lambda said: score_run(record(question=said)),
            lambda said: score_run(record(answer=said)),
            lambda said: score_run(record(passage=said)),
        ),
        "poise_services.gateway.languages:preferred_language": (preferred_language,),
        "poise_services.gateway.request_options:RequestOptions.from_headers": (
            lambda said: RequestOptions.from_headers([(b"cache-control", said.encode(errors="replace"))], 0.0),
            lambda said: RequestOptions.from_headers([(b"poise-min-epoch", said.encode(errors="replace"))], 0.0),
        ),
        "poise_services.inference.chat:CompletionAssembler": (_streamed,),
        "poise_services.inference.chat:request_body": (
            lambda said: request_body(Generate(messages=(ChatMessage(role="user", content=said),)), _BACKEND),
        ),
        "poise_services.inference.chat:parse_completion": (
            lambda said: parse_completion(reply(said), name="b", backend=_BACKEND),
            lambda said: parse_completion(said.encode(errors="replace"), name="b", backend=_BACKEND),
        ),
        "poise_services.inference.provider_errors:error_for_response": (
            lambda said: error_for_response(400, said.encode(errors="replace"), name="b"),
            lambda said: error_for_response(400, json.dumps({"error": {"message": said}}).encode(), name="b"),
        ),
        "poise_services.inference.sse:iter_event_data": (_events,),
        "poise_services.integration.response_text:is_empty": (lambda said: is_empty([said, {said: [*said.split()]}]),),
        "poise_services.integration.response_text:extract_text": (
            lambda said: extract_text(said.encode(errors="replace"), None, name="i"),
            lambda said: extract_text(json.dumps({"a": said}).encode(), "/a", name="i"),
            lambda said: extract_text(json.dumps(said.split()).encode(), "", name="i"),
        ),
        "poise_services.integration.api_errors:error_for_status": (
            lambda said: refusal_of_api(400, said.encode(errors="replace"), name="i"),
        ),
        "poise_services.integration.template:fill": (lambda said: fill(["{q}{q}", "a"], {"q": said}),),
        "poise_services.integration.template:fill_url": (
            lambda said: fill_url("http://h/{q}?q={q}", {"q": said.encode(errors="replace").decode()}),
        ),
        "poise_services.integration.template:placeholders": (lambda said: placeholders([said, {said: said}]),),
        "poise_services.integration.template:dot_segment_placeholders": (
            lambda said: dot_segment_placeholders("http://h/a{q}/b", {"q": said}),
        ),
        "poise_services.orchestration.canned:choose_text": (lambda said: choose_text(_CANNED, "t", said),),
        "poise_services.orchestration.canned:language_ranges": (lambda said: list(language_ranges(said)),),
        "poise_services.orchestration.answer_check:check": (
            lambda said: check(completed(said), evidence(PASSAGE), QUESTION, LadderSettings(), "v"),
            lambda said: check(completed(ANSWER), evidence(said), QUESTION, LadderSettings(), "v"),
            lambda said: check(completed(ANSWER), evidence(PASSAGE), said, LadderSettings(), "v"),
        ),
        "poise_services.orchestration.cache_keys:document_id": (document_id,),
        "poise_services.orchestration.cache_keys:normalize_question": (normalize_question,),
        "poise_labs.balance.model_proxy:without_passages": (without_passages,),
        "poise_services.orchestration.prompt:build_prompt": (
            lambda said: build_prompt(said, evidence(PASSAGE), 2, None),
            lambda said: build_prompt(QUESTION, evidence(said), 2, None),
        ),
        "poise_services.retrieval.headings:split_sections": (
            lambda said: headings.split_sections(said, "text"),
            lambda said: headings.split_sections(said, "markdown"),
        ),
        "poise_services.retrieval.sparse:SparseEncoder": (
            lambda said: _WORDS.encode_passage(said.encode(errors="replace").decode()),
            lambda said: _WORDS.encode_query(said.encode(errors="replace").decode()),
        ),
        "poise_services.retrieval.passages:split_document": (
            lambda said: passages.split_document(Document(text=f"a{said}", source="s")),
            lambda said: passages.split_document(Document(text=f"a{said}", source="s", format="markdown")),
        ),
        "poise_services.retrieval.passages:decode_vector": (lambda said: passages.decode_vector(said, 384),),
        "poise_services.retrieval.passages:document_of_manifest": (passages.document_of_manifest,),
        "poise_services.retrieval.passages:content_digest": (
            lambda said: passages.content_digest(
                "s", [passages.PassageContent(None, said.encode(errors="replace").decode())]
            ),
        ),
        "poise_services.retrieval.splitting:estimate_tokens": (splitting.estimate_tokens,),
        "poise_services.retrieval.splitting:split": (
            lambda said: splitting.split(said, "text"),
            lambda said: splitting.split(said, "markdown"),
        ),
    }
)
