"""The ladder: for any passages and model output some rung applies, with the reasons why those above it do not."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_run import ScriptedRun

from poise.contracts import Ask, Completion, Fault, Generate, Passage, Rung
from poise.errors import FaultError
from poise.scoring import Evidence
from poise.workflows.run import Run
from poise_services.orchestration.answer import RUNG_FUNCTIONS
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_hints import NO_CACHE, CacheHints, EarlierAnswer
from poise_services.orchestration.evidence_reader import EvidenceReader
from poise_services.orchestration.generation import VariantAttempts
from poise_services.orchestration.ladder import RungContext, answer_by_ladder
from poise_services.orchestration.retrieval import Retrieved
from poise_services.orchestration.rung_outcome import RungResult
from poise_services.orchestration.settings import NO_ANSWER, LadderSettings, OrchestrationSettings, Variant
from poise_services.orchestration.variant_router import VariantRouter

RUNGS: tuple[Rung, ...] = ("primary", "variant", "stale", "extractive", "canned")
WORDS = ["the", "lamp", "was", "not", "lit", "in", "1847", "by", "Ada", "Quill", "keeper", "it", "burns", "oil", "sea"]
AWAY = FaultError(Fault(type="urn:poise:unavailable", title="Unavailable", status=503, detail="away", retryable=True))
LAMP = "The lamp of Harrow Point was lit in 1847 by the keeper Ada Quill."
VARIANTS = (Variant(name="big", backend="big"), Variant(name="small", backend="small", weight=0))

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(lambda words: " ".join(words) + ".")
texts = st.lists(sentences, max_size=4).map(" ".join) | st.text(max_size=200)
wrote = st.just(AWAY) | texts
ladders = st.sets(st.sampled_from(RUNGS)).map(
    lambda some: LadderSettings(
        rungs=tuple(r for r in RUNGS if r in some | {"canned"} and (r != "variant" or "primary" in some))
    )
)


def earlier(text: str | None) -> CacheHints:
    """Return the hints of a cache with one answer, or none."""

    async def stale() -> EarlierAnswer | None:
        return None if text is None else EarlierAnswer(text, (), "small", "e0", 90.0, "too old")

    return CacheHints(stale)


def passages(of: Sequence[str]) -> tuple[Passage, ...]:
    return tuple(Passage(id=f"d#{n}", source="d", text=text, score=1.0, age=1.0) for n, text in enumerate(of))


async def result_of(
    question: str,
    found: Retrieved,
    written: dict[str, str | Exception],
    ladder: LadderSettings,
    *,
    hints: CacheHints = NO_CACHE,
    variants: tuple[Variant, ...] = VARIANTS,
) -> RungResult:
    def write(request: Generate) -> Completion | Exception:
        words = written[request.backend]
        if isinstance(words, Exception):
            return words
        return Completion(text=words, model="m", backend=request.backend, finish_reason="stop")

    settings = OrchestrationSettings(variants=variants, ladder=ladder)
    run, evidence = Run(ScriptedRun({Generate: write})), Evidence(found.passages)
    reader = EvidenceReader(evidence)
    router = VariantRouter(run, variants[0], settings=settings, breakers=Breakers(variants))
    ask = Ask.model_construct(question=question)
    return await answer_by_ladder(
        RUNG_FUNCTIONS, RungContext(run, ask, found, reader, VariantAttempts(run, router), hints, ladder)
    )


@given(
    question=sentences | st.text(min_size=1, max_size=80),
    found=st.lists(texts, max_size=4),
    big=wrote,
    small=wrote,
    kept=st.just(NO_CACHE) | st.builds(earlier, st.none() | sentences),
    ladder=ladders,
    failed=st.booleans(),
)
async def test_whatever_fails_some_rung_applies(
    *,
    question: str,
    found: list[str],
    big: str | Exception,
    small: str | Exception,
    kept: CacheHints,
    ladder: LadderSettings,
    failed: bool,
) -> None:
    error = None if found else "retrieval failed" if failed else "retrieval found nothing"
    retrieved = Retrieved(passages(found), "e", error=error, failed=failed and not found)
    result = await result_of(question, retrieved, {"big": big, "small": small}, ladder, hints=kept)

    assert result.text.strip()
    assert result.rung in ladder.rungs
    if result.rung == ladder.rungs[0] and result.rung != "stale":
        assert result.reason is None
    elif set(ladder.rungs[: ladder.rungs.index(result.rung)]) - {"stale"}:
        assert result.reason
    said = (result.reason or "").split("; ")
    assert said.count(error or "retrieval found nothing") <= 1, "each reason is given once"
    assert {citation.passage for citation in result.citations} <= {passage.id for passage in retrieved.passages}
    match result.rung:
        case "primary" | "variant":
            words = big if result.rung == "primary" else small
            assert isinstance(words, str)
            assert result.text == words.strip()
            assert result.variant == ("big" if result.rung == "primary" else "small")
            assert result.citations
        case "stale":
            assert result.earlier is not None
            assert (result.text, result.variant) == (result.earlier.text, "small")
            assert found or failed, "no stale answer is sent if the index finds nothing"
        case "extractive":
            assert result.citations
            assert result.variant is None
        case "canned":
            assert (result.text, result.variant) == (NO_ANSWER, None)


@given(sentences, st.lists(sentences, min_size=1, max_size=4))
async def test_an_extractive_answer_quotes_the_passages(question: str, found: list[str]) -> None:
    result = await result_of(question, Retrieved(passages(found)), {}, LadderSettings(rungs=("extractive", "canned")))
    if result.rung == "extractive":
        assert any(result.text in text for text in found)
        assert [citation.quote for citation in result.citations] == [result.text]


def test_each_rung_has_a_fallback_in_the_default_order() -> None:
    assert tuple(RUNG_FUNCTIONS) == RUNGS == LadderSettings().rungs


async def test_each_distinct_reason_is_given_once() -> None:
    found = Retrieved(error="retrieval found nothing")
    result = await result_of("Why?", found, {}, LadderSettings(), hints=earlier(None))
    assert result.rung == "canned"
    assert result.reason == "retrieval found nothing; no passage is relevant to the question"


async def test_a_missing_cached_answer_is_not_a_reason() -> None:
    found = Retrieved(error="retrieval failed", failed=True)
    result = await result_of("Why?", found, {}, LadderSettings(), hints=earlier(None))
    assert result.reason == "retrieval failed; no passage is relevant to the question"


@pytest.mark.parametrize(
    ("settings", "rung"),
    [({"min_groundedness": 1.0}, "extractive"), ({"min_groundedness": 0.0, "min_relevance": 0.0}, "primary")],
)
async def test_the_threshold_of_groundedness_is_a_setting(settings: dict[str, float], rung: str) -> None:
    made_up = "Bruno Falk lit it in 1902."
    found = Retrieved(passages([LAMP]))
    ladder = LadderSettings.model_validate(settings)
    result = await result_of("Who lit it?", found, {"big": made_up}, ladder, variants=VARIANTS[:1])
    assert result.rung == rung


async def test_a_grounded_answer_to_another_question_is_rejected() -> None:
    found = Retrieved(passages(["The lamp of Harrow Point burns whale oil. The keeper of Harrow Point is Ada Quill."]))
    question, beside = "What does the lamp of Harrow Point burn?", "The keeper of Harrow Point is Ada Quill."
    result = await result_of(question, found, {"big": beside}, LadderSettings(), variants=VARIANTS[:1])
    assert (result.rung, result.text) == ("extractive", "The lamp of Harrow Point burns whale oil.")
    result = await result_of(question, found, {"big": beside}, LadderSettings(min_relevance=0.0), variants=VARIANTS[:1])
    assert result.text == beside
