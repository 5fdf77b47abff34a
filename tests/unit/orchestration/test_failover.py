"""Failover: which variant is asked next, its time limit, and what the run record contains of it."""

import asyncio
from typing import Any

import pytest
from scripted_run import AnsweredQuestion, AskFunction, ScriptedRun

from poise.contracts import Fault, Generate
from poise.errors import DeadlineExceededError, FaultError
from poise.policy.draw import draw
from poise.redis.client import RedisClient
from poise.resilience.breaker import BreakerLimits
from poise.telemetry import semconv
from poise.telemetry.metrics import Recorder, activate, deactivate
from poise.workflows.run import Run
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.cache_hints import CacheHints, EarlierAnswer
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.variant_router import VariantRouter

RIGHT = "The lamp of Harrow Point was lit by the keeper Ada Quill."
WRONG = "It was lit by Bruno Falk in 1902 with gas from Norway."
BIG = {"name": "big", "backend": "cloud", "context_window": 8_000}
SMALL = {"name": "small", "backend": "gpu", "weight": 0, "context_window": 4_000}
HUGE = {"name": "huge", "backend": "moon", "weight": 0, "context_window": 200_000}
TWIN = {"name": "twin", "backend": "cloud", "weight": 0, "context_window": 8_000}


def fault(name: str, **more: Any) -> FaultError:
    detail = f"the backend says {name}"
    return FaultError(Fault(type=f"urn:poise:{name}", title=name, status=500, detail=detail, retryable=True, **more))


def asked_of(asked: AnsweredQuestion) -> list[str]:
    return [request.backend for request in asked.run.requests if isinstance(request, Generate)]


def breakers_of(*variants: dict[str, Any], **limits: Any) -> Breakers:
    return Breakers([Variant.model_validate(one) for one in variants], BreakerLimits(**limits), lambda: 100.0)


async def test_a_failed_variant_is_replaced_by_another(asking: AskFunction) -> None:
    asked = await asking(wrote={"cloud": fault("unavailable"), "gpu": RIGHT}, variants=[BIG, SMALL])
    answer = asked.answer
    assert (answer.rung, answer.variant, answer.text) == ("variant", "small", RIGHT)
    assert answer.reason == "big failed: unavailable: the backend says unavailable"
    assert answer.citations
    assert answer.timings.keys() == {"retrieve", "generate", "generate.small", "total"}
    assert [(g.variant, g.raw, g.fault, g.broken) for g in asked.record.generations] == [
        ("big", None, "urn:poise:unavailable", None),
        ("small", RIGHT, None, None),
    ]
    draw_ = asked.draw
    assert (draw_.variant, draw_.probability, draw_.raw, draw_.skipped) == ("big", 1.0, None, None)


async def test_a_rejected_answer_is_replaced_by_another_variants(asking: AskFunction) -> None:
    asked = await asking(wrote={"cloud": WRONG, "gpu": RIGHT}, variants=[BIG, SMALL])
    assert (asked.answer.rung, asked.answer.variant) == ("variant", "small")
    assert asked.reason.startswith("big's answer is not grounded in the passages")
    assert asked.draw.raw == WRONG, "the other variant's answer is not recorded for it"
    assert [g.broken for g in asked.record.generations] == [asked.reason, None]


async def test_the_number_of_failovers_is_limited(asking: AskFunction) -> None:
    down = dict.fromkeys(("cloud", "gpu", "moon"), fault("unavailable"))
    for failovers, backends in ((0, ["cloud"]), (1, ["cloud", "moon"]), (2, ["cloud", "moon", "gpu"])):
        variants = [BIG, SMALL, {**HUGE, "weight": 0.0}]
        asked = await asking(wrote=down, variants=variants, max_failovers=failovers)
        assert asked_of(asked) == backends[: 1 + failovers], "by name, with equal weights"
        assert asked.answer.rung == "extractive"
        assert asked.reason.count("failed") == 1 + failovers, "each has a reason"


@pytest.mark.parametrize(
    ("cause", "variants", "backends"),
    [
        ("unavailable", [BIG, TWIN], ["cloud"]),
        ("invalid", [BIG, TWIN, SMALL], ["cloud", "gpu"]),
        ("failed", [BIG, TWIN], ["cloud"]),
        ("context-too-long", [BIG, SMALL, HUGE], ["cloud", "moon"]),
        ("context-too-long", [BIG, SMALL], ["cloud"]),
        ("content-filtered", [BIG, SMALL, HUGE], ["cloud"]),
        ("cancelled", [BIG, SMALL, HUGE], ["cloud"]),
        ("rate-limited", [BIG, TWIN, SMALL], ["cloud", "gpu"]),
    ],
)
async def test_the_fault_type_decides_which_variant_is_next(
    asking: AskFunction, cause: str, variants: list[dict[str, Any]], backends: list[str]
) -> None:
    asked = await asking(wrote={"cloud": fault(cause), "gpu": RIGHT, "moon": RIGHT}, variants=variants)
    assert asked_of(asked) == backends
    assert asked.answer.rung == ("variant" if len(backends) > 1 else "extractive")
    if len(backends) == 1:
        assert asked.reason.endswith("; no other variant is worth asking")


async def test_an_omitted_rung_is_not_used(asking: AskFunction) -> None:
    down = {"cloud": fault("unavailable"), "gpu": RIGHT}
    asked = await asking(wrote=down, variants=[BIG, SMALL], rungs=["primary", "extractive", "canned"])
    assert (asked.answer.rung, asked_of(asked)) == ("extractive", ["cloud"])
    asked = await asking(wrote=down, variants=[BIG, SMALL], rungs=["extractive", "canned"])
    assert (asked.answer.rung, asked.answer.reason, asked_of(asked)) == ("extractive", None, [])
    assert asked.draw.skipped == "the ladder has no rung primary"


# -- time --------------------------------------------------------------------------------------------------------------


async def test_the_first_variant_leaves_as_much_time_as_it_may_take(asking: AskFunction) -> None:
    """Reserve 4 of 40 seconds: the first variant, which never answers, has half of the rest, like the second."""
    slow = DeadlineExceededError("no reply in time")
    asked = await asking(
        wrote={"cloud": slow, "gpu": RIGHT},
        variants=[BIG, SMALL],
        deadline_reserve=0.1,
        run={"left": 40.0, "takes": 12.0},
    )
    assert asked.run.timeouts == {"retrieve": 36.0, "generate": 12.0, "generate.small": 12.0}
    assert asked.answer.rung == "variant"


async def test_a_variant_without_a_possible_failover_has_all_the_time(asking: AskFunction) -> None:
    asked = await asking(
        wrote={"cloud": RIGHT}, variants=[BIG, SMALL], max_failovers=0, run={"left": 40.0}, deadline_reserve=0.1
    )
    assert asked.run.timeouts["generate"] == 36.0
    breakers = breakers_of(BIG, SMALL, min_calls=1)
    breakers.record("small", breakers.admit("small"), "failed")
    asked = await asking(
        wrote={"cloud": RIGHT}, variants=[BIG, SMALL], breakers=breakers, run={"left": 40.0}, deadline_reserve=0.1
    )
    assert asked.run.timeouts["generate"] == 36.0, "the other variant's breaker is open"


async def test_the_last_variant_has_all_the_remaining_time(asking: AskFunction) -> None:
    asked = await asking(
        wrote={"cloud": fault("unavailable"), "moon": RIGHT}, variants=[BIG, SMALL, HUGE], deadline_reserve=0.1,
        run={"left": 40.0},
    )  # fmt: skip
    assert asked.run.timeouts == {"retrieve": 36.0, "generate": 18.0, "generate.huge": 36.0}


async def test_retrieval_leaves_time_for_the_models_if_passages_are_cached(asking: AskFunction) -> None:
    redis = RedisClient("redis://127.0.0.1:9")
    asked = await asking(
        wrote={"cloud": RIGHT}, variants=[BIG, SMALL], redis=redis, deadline_reserve=0.1, run={"left": 40.0}
    )
    assert asked.run.timeouts["retrieve"] == pytest.approx(12.0)
    asked = await asking(wrote=RIGHT, redis=redis, deadline_reserve=0.1, run={"left": 40.0})
    assert asked.run.timeouts["retrieve"] == pytest.approx(18.0)
    asked = await asking(wrote=RIGHT, redis=redis, passages_ttl=0, deadline_reserve=0.1, run={"left": 40.0})
    assert asked.run.timeouts["retrieve"] == 36.0
    waits = {"left": 40.0, "min_epoch": "e1.AAAA.0~9~1000"}
    asked = await asking(wrote=RIGHT, redis=redis, deadline_reserve=0.1, run=waits)
    assert asked.run.timeouts["retrieve"] == 36.0, "cached passages are below that epoch"


@pytest.mark.parametrize(
    ("variants", "patience"),
    [([BIG], None), ([BIG, TWIN], None), ([BIG, SMALL], 0.0)],
    ids=["alone", "all at one backend", "another can be asked"],
)
async def test_inference_waits_for_a_rate_limit_only_without_another_backend(
    asking: AskFunction, variants: list[dict[str, Any]], patience: float | None
) -> None:
    asked = await asking(wrote=RIGHT if len(variants) == 1 else {"cloud": RIGHT}, variants=variants)
    (request,) = [request for request in asked.run.requests if isinstance(request, Generate)]
    assert request.patience == patience


async def test_the_last_variant_may_wait_for_its_rate_limit(asking: AskFunction) -> None:
    asked = await asking(wrote={"cloud": fault("rate-limited"), "gpu": RIGHT}, variants=[BIG, SMALL])
    assert [request.patience for request in asked.run.requests if isinstance(request, Generate)] == [0.0, None]


# -- breakers ----------------------------------------------------------------------------------------------------------


async def test_a_variant_with_an_open_breaker_is_skipped_and_recorded(asking: AskFunction) -> None:
    breakers = breakers_of(BIG, SMALL, min_calls=2)
    down: dict[str, Any] = {"cloud": fault("unavailable"), "gpu": RIGHT}
    runs = [await asking(wrote=down, variants=[BIG, SMALL], breakers=breakers) for _ in range(3)]
    assert [asked_of(asked) for asked in runs] == [["cloud", "gpu"], ["cloud", "gpu"], ["gpu"]]
    last = runs[-1]
    assert (last.answer.rung, last.answer.variant) == ("variant", "small")
    assert last.reason == last.draw.skipped == "big is skipped, it failed lately: the backend says unavailable"
    assert (last.draw.variant, last.draw.probability, last.draw.raw) == ("big", 1.0, None)


async def test_with_all_breakers_open_no_model_is_asked(asking: AskFunction) -> None:
    breakers = breakers_of(BIG, SMALL, min_calls=1)
    for name in ("big", "small"):
        breakers.record(name, breakers.admit(name), "failed")
    asked = await asking(wrote={}, variants=[BIG, SMALL], breakers=breakers)
    assert (asked.answer.rung, asked_of(asked)) == ("extractive", [])
    assert asked.reason == "big is skipped, it failed lately; small is skipped, it failed lately"


async def test_a_rate_limit_opens_the_breaker_for_its_retry_after(asking: AskFunction) -> None:
    breakers = breakers_of(BIG, SMALL)
    limited = {"cloud": fault("rate-limited", retry_after=60.0), "gpu": RIGHT}
    runs = [await asking(wrote=limited, variants=[BIG, SMALL], breakers=breakers) for _ in range(2)]
    assert [asked_of(asked) for asked in runs] == [["cloud", "gpu"], ["gpu"]]


@pytest.mark.parametrize("name", ["context-too-long", "content-filtered", "invalid", "failed"])
async def test_a_fault_of_the_question_is_not_a_failure_of_the_variant(asking: AskFunction, name: str) -> None:
    breakers = breakers_of(BIG, SMALL, min_calls=1)
    await asking(wrote={"cloud": fault(name), "gpu": RIGHT}, variants=[BIG, SMALL], breakers=breakers)
    assert breakers.states() == {"big": "closed", "small": "closed"}


async def test_short_deadlines_do_not_open_a_breaker(asking: AskFunction) -> None:
    breakers = breakers_of(BIG, SMALL, min_calls=1)
    late = {"cloud": DeadlineExceededError("no reply in time"), "gpu": RIGHT}
    await asking(wrote=late, variants=[BIG, SMALL], breakers=breakers, run={"left": 2.0})
    assert breakers.states()["big"] == "closed"
    await asking(wrote=late, variants=[BIG, SMALL], breakers=breakers, run={"left": 20.0})
    assert breakers.states()["big"] == "open"


async def test_a_bug_releases_the_probe(asking: AskFunction) -> None:
    now = 100.0
    breakers = Breakers([Variant.model_validate(BIG)], BreakerLimits(min_calls=1), lambda: now)
    breakers.record("big", breakers.admit("big"), "failed")
    now += 2
    with pytest.raises(ValueError, match="a bug"):
        await asking(wrote=ValueError("a bug"), variants=[BIG], breakers=breakers)
    assert breakers.admit("big") is not None


@pytest.mark.parametrize(
    ("big", "left_alone", "cause"),
    [
        (fault("unavailable"), False, "urn:poise:unavailable"),
        (fault("made-up-by-somebody"), False, "other"),
        (WRONG, False, "check"),
        (RIGHT, True, "open"),
    ],
)
async def test_each_failover_is_counted_by_variant_and_cause(
    asking: AskFunction, big: str | Exception, left_alone: bool, cause: str
) -> None:
    breakers = breakers_of(BIG, SMALL, min_calls=1)
    if left_alone:
        breakers.record("big", breakers.admit("big"), "failed")
    recorder = Recorder([semconv.FAILOVERS, semconv.ANSWERS], {semconv.RUN_DURATION: lambda *_: None})
    activate(recorder)
    try:
        await asking(wrote={"cloud": big, "gpu": RIGHT}, variants=[BIG, SMALL], breakers=breakers)
    finally:
        deactivate(recorder)
    assert recorder.sums(semconv.FAILOVERS) == [(1, {semconv.VARIANT: "big", semconv.ERROR_TYPE: cause})]


# -- stale answers -----------------------------------------------------------------------------------------------------


async def stale_answer() -> EarlierAnswer | None:
    return EarlierAnswer(RIGHT, (), "small", "e1.AAAA.0~0~500", 90.0, "The book of lamps has changed")


async def test_a_stale_answer_is_sent_unchanged(asking: AskFunction) -> None:
    asked = await asking(wrote={"cloud": fault("unavailable")}, variants=[BIG], hints=CacheHints(stale_answer))
    answer = asked.answer
    assert (answer.rung, answer.text, answer.variant) == ("stale", RIGHT, "small")
    assert (answer.cached, answer.age, answer.epoch) == (True, 90.0, "e1.AAAA.0~0~500")
    assert answer.run_id == asked.run.run
    assert asked.reason == (
        "the model failed: unavailable: the backend says unavailable; The book of lamps has changed"
    )
    assert asked.record.cached is False, "the drawn variant was asked, and its failure counts"


async def test_a_stale_answer_is_sent_if_retrieval_fails(asking: AskFunction) -> None:
    asked = await asking(found=fault("unavailable"), variants=[BIG], hints=CacheHints(stale_answer))
    assert asked.answer.rung == "stale"
    assert asked.reason.startswith(asked.draw.skipped or "?")


async def test_a_hint_to_skip_the_model_leads_to_an_extractive_answer(asking: AskFunction) -> None:
    asked = await asking(
        wrote={}, variants=[BIG, SMALL], hints=CacheHints(skip_model_reason="another run is at work on it")
    )
    assert (asked.answer.rung, asked_of(asked)) == ("extractive", [])
    assert asked.reason == asked.draw.skipped == "another run is at work on it"


def test_the_draw_is_the_one_that_the_tests_above_assume() -> None:
    variants = [Variant.model_validate(one) for one in (BIG, SMALL)]
    assert draw(variants, run="r", policy="answer", version=1, secret=b"s").variant.name == "big"


async def test_a_probe_interrupted_before_its_call_is_released() -> None:
    now = 100.0
    settings = OrchestrationSettings()
    (drawn,) = settings.variants
    breakers = Breakers(settings.variants, clock=lambda: now)
    breakers.record(drawn.name, breakers.admit(drawn.name), "open_as_asked", 5.0)
    now += 6.0

    class CutOff(Run):
        async def step(self, _: str, function: Any, *__: object, **___: Any) -> Any:  # type: ignore[override]
            await function()
            raise asyncio.CancelledError

    run = CutOff(ScriptedRun({}))  # the only part of a run that it needs
    router = VariantRouter(run, drawn, settings=settings, breakers=breakers)
    with pytest.raises(asyncio.CancelledError):
        await router.route_to_drawn()
    assert breakers.states() == {drawn.name: "half-open"}
    assert breakers.admit(drawn.name) is not None
