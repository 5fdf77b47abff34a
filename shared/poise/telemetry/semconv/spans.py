"""The names of the spans."""

import re
from typing import Final

ASK: Final = "ask"
"""Gateway: from the HTTP request to the response."""
INGEST: Final = "ingest"
"""Gateway: from the HTTP request until the documents are in the log."""
ANSWER: Final = "answer"
"""Orchestration: the workflow."""
CACHE_LOOKUP: Final = "look up cached answer"
CHECK: Final = "check groundedness"
SPLIT: Final = "split document"
EMBED_QUERY: Final = "embed query"
EMBED_PASSAGES: Final = "embed passages"
SEARCH: Final = "search index"
WAIT_EPOCH: Final = "wait for epoch"
SCORE_RUN: Final = "score run"
FEEDBACK: Final = "feedback"
"""Gateway: from the HTTP request until the feedback is in the log."""
FIND_RUN: Final = "find run"
"""Evaluation: looks up the record of the run that feedback is about."""


_STEP_SUFFIX: Final = re.compile(r"(-[0-9a-f]{8})?(\.[0-9]+)?(?=/|$)")


def send_span(topic: str) -> str:
    """Return the name of the span of publishing to a topic."""
    return f"send {topic}"


def process_span(topic: str) -> str:
    """Return the name of the span of handling one message of a topic."""
    return f"process {topic}"


def call_span(step: str) -> str:
    """Return the name of the span of one call, without the hash and number of its step."""
    return f"call {_STEP_SUFFIX.sub('', step)}"


STEP_SPAN_PREFIX: Final = "step "
"""The prefix of the span of a local step."""


def step_span(name: str) -> str:
    """Return the name of the span of a local step of a workflow, when it runs and is not replayed from the journal."""
    return f"{STEP_SPAN_PREFIX}{name}"


def chat_span(model: str) -> str:
    """Return the name of the span of one request to a model."""
    return f"chat {model}"


def fetch_span(integration: str) -> str:
    """Return the name of the span of one request to an integration."""
    return f"fetch {integration}"
