"""Functions of untrusted text: their work grows linearly with the text, whatever it contains.

Instructions are counted, including those of the regex engine, so the speed and load of the machine do not matter.
"""

import ast
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

import callgrind
import pytest
from count_instructions import SIZES, is_superlinear
from source_tree import source_files
from text_functions import FUNCTIONS, SLOW

ROOT: Final = Path(__file__).parents[3]
KIT: Final = ROOT / "tests" / "kit"
AT_ONCE: Final = 2

Counts = Mapping[str, Mapping[str, list[int]]]
"""By function and case, the instructions of texts of growing size."""

NO_TEXT: Final = "takes no text from outside"
NOT_TRIED: Final[Mapping[str, str]] = {
    "poise.contracts.message:is_strict": "takes no text from outside",
    "poise.cli.dlq_view:dead_letter_page": "is made of body and clean",
    "poise.cli.dlq_view:dead_letters_table": "is made of clean",
    "poise.cli.dlq_view:outcome_line": "is made of clean",
    "poise.cli.dlq_view:totals_line": NO_TEXT,
    "poise.ingestion.document_files:find_files": NO_TEXT,
    "poise.ingestion.document_files:read_document": "is made of source_name and Message.parse",
    "poise.cli.scores:scores": "is made of span",
    "poise.cli.text:format_duration": NO_TEXT,
    "poise.cli.text:format_ms": NO_TEXT,
    "poise.cli.text:plural": NO_TEXT,
    "poise.contracts.custom_topics:custom_tier_topics": NO_TEXT,
    "poise.contracts.custom_topics:request_topic": NO_TEXT,
    "poise.contracts.run_id:new_run_id": NO_TEXT,
    "poise.contracts.run_id:derive_run_id": NO_TEXT,
    "poise.contracts.topics:dead_letter_topic": NO_TEXT,
    "poise.contracts.topics:dead_letter_topic_name": NO_TEXT,
    "poise.contracts.topics:retry_topic": NO_TEXT,
    "poise.contracts.topics:retry_topic_name": NO_TEXT,
    "poise.contracts.topics:topics_of_tier": NO_TEXT,
    "poise.kafka.offset_commits:encode_commit": NO_TEXT,
    "poise.dead_letters.filter:invalid_field": "writes an error",
    "poise.kafka.offset_metadata:encode": NO_TEXT,
    "poise.policy.weights:decrease": NO_TEXT,
    "poise.policy.weights:restore": NO_TEXT,
    "poise.policy.weights:check_size": NO_TEXT,
    "poise.policy.weights:normalize": NO_TEXT,
    "poise.scoring.tokenization:cached_by_text": NO_TEXT,
    "poise.stack.options:custom_tier_name": NO_TEXT,
    "poise.stack.options:parse_custom_tiers": NO_TEXT,
    "poise.stack.options:parse_workers": NO_TEXT,
    "poise.stack.options:default_workers": NO_TEXT,
    "poise.telemetry.semconv.spans:chat_span": NO_TEXT,
    "poise.telemetry.semconv.spans:fetch_span": NO_TEXT,
    "poise.telemetry.semconv.spans:process_span": NO_TEXT,
    "poise.telemetry.semconv.spans:send_span": NO_TEXT,
    "poise.telemetry.semconv.spans:step_span": NO_TEXT,
    "poise.telemetry.tracing:current_span": NO_TEXT,
    "poise.telemetry.tracing:record_error": NO_TEXT,
    "poise.telemetry.tracing:inject": NO_TEXT,
    "poise.telemetry.tracing:deactivate": NO_TEXT,
    "poise.telemetry.tracing:activate": NO_TEXT,
    "poise_services.evaluation.run_scores:scoring_size": "counts characters",
    "poise_services.orchestration.cache_keys:answer_key": "is made of normalized",
    "poise_services.orchestration.cache_keys:cache_group_members": NO_TEXT,
    "poise_services.orchestration.user_workflows:load_workflows": NO_TEXT,
    "poise_services.retrieval.passages:encode_vector": NO_TEXT,
    "poise_services.retrieval.passages:manifest_key": "takes an id of at most 500 characters",
    "poise_services.retrieval.passages:copy_note_key": "takes an id of at most 500 characters",
    "poise_services.retrieval.passages:document_of_copy_note": "looks at the end of a key",
    "poise_services.retrieval.passages:passage_record_key": "takes an id of at most 500 characters",
}
"""Public functions of the modules that are tried, or have a regular expression; and why these are not."""


def _counted(folder: Path, names: list[str]) -> list[dict[str, object]]:
    command = callgrind.command(folder, str(KIT / "count_instructions.py"), str(folder), *names)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "shared", KIT)))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """Return the instruction counts of every function, measured once for all tests, by two processes."""
    if not callgrind.supported():
        pytest.skip("instructions are counted on x86-64 alone")
    shares = [list(FUNCTIONS)[number::AT_ONCE] for number in range(AT_ONCE)]
    folders = [tmp_path_factory.mktemp("counts") for _ in shares]
    found: dict[str, dict[str, list[int]]] = defaultdict(dict)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for some in threads.map(_counted, folders, shares):
            for one in some:
                found[str(one["function"])][str(one["case"])] = one["counts"]  # type: ignore[assignment]
    return found


@pytest.mark.callgrind
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != SLOW])
def test_function_takes_linear_time(counts: Counts, name: str) -> None:
    assert counts[name]
    faster = {case: found for case, found in counts[name].items() if is_superlinear(found)}
    assert not faster, f"of texts of {SIZES} characters it takes these instructions"


@pytest.mark.callgrind
@pytest.mark.timeout(900)
def test_superlinear_function_is_detected(counts: Counts) -> None:
    assert {case for case, found in counts[SLOW].items() if is_superlinear(found)} == {"0, spaces", "0, blank lines"}


@cache
def modules() -> dict[str, ast.Module]:
    """Return the modules whose functions are tested, and those that have a regular expression."""
    found = {}
    for name, file in source_files():
        tree = ast.parse(file.read_text())
        if name in TRIED or any(isinstance(node, ast.Import) and _imports_re(node) for node in ast.walk(tree)):
            found[name] = tree
    return found


TRIED: Final = {name.partition(":")[0] for name in FUNCTIONS} - {SLOW.partition(":")[0]}


def _imports_re(node: ast.Import) -> bool:
    return any(alias.name == "re" for alias in node.names)


def test_every_public_function_is_tested_or_exempt_with_a_reason() -> None:
    public = {
        f"{module}:{node.name}"
        for module, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }
    assert not public - FUNCTIONS.keys() - NOT_TRIED.keys()
    assert not NOT_TRIED.keys() - public, "these are not there any more"
