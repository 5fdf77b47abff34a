"""Custom tiers: the refusal of invalid ones before anything runs, and the topics of requests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.contracts import Ask, Deadlines, Generate, Message, Request, Retrieve, TopicOptions
from poise.contracts.custom_topics import custom_tier_topics, find_topic, request_topic, tiers_with_dead_letters
from poise.contracts.topics import (
    BATCH,
    CATALOGUE,
    INTERACTIVE,
    REQUESTS,
    RETRY_DELAYS,
    dead_letter_topic_name,
    retry_topic_name,
)
from poise.errors import SetupError
from poise.worker import tier_loader
from poise.worker.context import Context
from poise.worker.executors import in_processes
from poise.worker.tier import Tier


class Translated(Message):
    kind = "translated/1"
    text: str


class Translate(Request[Translated]):
    kind = "translate/1"
    reply = Translated
    tier = "translation"
    text: str


class Again(Request[Translated]):
    kind = "translate/1"
    reply = Translated
    tier = "translation"


class NoReply(Request[Translated]):
    kind = "no-reply/1"
    tier = "translation"


class NoTier(Request[Translated]):
    kind = "no-tier/1"
    reply = Translated


class Unversioned(Request[Translated]):
    kind = "unversioned"
    reply = Translated
    tier = "translation"


class Nameless(Request[Translated]):
    reply = Translated
    tier = "translation"


async def translate(request: Translate, _context: Context) -> Translated:
    return Translated(text=request.text)


def plain(request: Translate, _context: Context) -> Translated:
    return Translated(text=request.text)


two_arguments: Any = plain


def alone(request: Translate) -> Translated:
    return Translated(text=request.text)


async def anything(_request: Any, _context: Any) -> Any:
    return None


async def wrong_request(_request: Retrieve, _context: Context) -> Translated:
    raise NotImplementedError


async def wrong_reply(_request: Translate, _context: Context) -> str:
    raise NotImplementedError


async def only_request(_request: Translate) -> Translated:
    raise NotImplementedError


def make(handlers: dict[Any, Any], name: str = "translation", **options: Any) -> Callable[[], Tier]:
    return lambda: Tier(name, handlers, **options)


@pytest.mark.parametrize(
    ("construct", "says"),
    [
        (make({}), "it has no handlers"),
        (make({Translated: anything}), "Translated is not a Request"),
        (make({"translate/1": anything}), "translate/1 is not a Request"),
        (make({NoReply: anything}), "NoReply has no reply"),
        (make({NoTier: anything}), "NoTier has tier None: give it `tier = 'translation'`"),
        (make({Translate: translate}, "other"), "Translate has tier 'translation': give it `tier = 'other'`"),
        (make({Unversioned: anything}), "Unversioned.kind is 'unversioned', which is not name/version"),
        (make({Nameless: anything}), "Nameless.kind is None"),
        (make({Translate: translate, Again: anything}), "Translate and Again are both 'translate/1'"),
        (make({Retrieve: anything}), "Retrieve belongs to a built-in tier"),
        (make({Translate: wrong_request}), "wrong_request handles Translate, but its request is annotated as Retrieve"),
        (make({Translate: wrong_reply}), "wrong_reply handles Translate, but returns str, not Translated"),
        (make({Translate: only_request}), "only_request handles Translate, but takes .*, not .request, context"),
        (
            make({Translate: in_processes(two_arguments, workers=1)}),
            "plain handles Translate, but takes .*, not .request",
        ),
        (make({Translate: in_processes(lambda request: request, workers=1)}), "top level of a module"),
        (make({Translate: None}), "the handler of Translate is None"),
        (make({Translate: translate}, "inference"), "none of its topics accepts Translate"),
        (make({Translate: translate}, "replies"), "replies is reserved for Poise"),
        (make({Translate: translate}, "ask"), "ask is reserved for Poise"),
        *(
            (make({Translate: translate}, name), "lower-case letters")
            for name in ("", "Ü", "a.b", "9a", "a b", "x" * 41)
        ),
        (make({Generate: anything}, "inference", topics=TopicOptions()), "is built in: its topics"),
        (lambda: in_processes(alone, workers=0), "workers must be 1 or more"),
    ],
)
def test_contradictory_tier_is_rejected_in_one_line(construct: Callable[[], Any], says: str) -> None:
    with pytest.raises(SetupError, match=says) as refusal:
        construct()
    assert "\n" not in str(refusal.value)


def test_all_errors_of_a_tier_are_reported_at_once() -> None:
    with pytest.raises(SetupError, match=r"^tier Our: .*lower-case.*; NoReply has no reply.*; Translate has tier"):
        Tier("Our", {NoReply: anything, Translate: translate})


@pytest.mark.parametrize("handler", [translate, plain, in_processes(alone, workers=1), anything])
def test_each_form_of_handler_is_accepted(handler: Any) -> None:
    tier = Tier("translation", {Translate: handler})
    assert [topic.name for topic in tier.topics] == [
        "poise.translation.requests.interactive",
        "poise.translation.requests.batch",
    ]
    assert tier.custom_topics == (*tier.topics, *custom_tier_topics("translation", ())[2:])


def test_topic_names_and_retention_follow_the_convention() -> None:
    interactive, batch, *again, dead = custom_tier_topics("translation", (Translate,))
    model = REQUESTS[Generate]["interactive"]
    assert (interactive.partitions, interactive.retention, interactive.ordered) == (
        model.partitions,
        model.retention,
        False,
    )
    assert (interactive.deadlines, batch.deadlines) == (INTERACTIVE, BATCH)
    assert interactive.accepts == batch.accepts == (Translate,)
    assert [topic.name for topic in again] == [retry_topic_name("translation", delay) for delay in RETRY_DELAYS]
    assert (dead.name, dead.max_bytes) == (
        dead_letter_topic_name("translation"),
        CATALOGUE[dead_letter_topic_name("inference")].max_bytes,
    )


def test_topic_options_set_the_topics() -> None:
    soon, late = Deadlines(5, 60), Deadlines(60, 600)
    options = TopicOptions(ordered=True, partitions=12, retention=None, interactive=soon, batch=late)
    interactive, batch = Tier("translation", {Translate: translate}, topics=options).topics
    assert (interactive.ordered, interactive.partitions, interactive.retention) == (True, 12, None)
    assert (interactive.deadlines, batch.deadlines) == (soon, late)


def test_topic_of_a_request_is_that_of_its_class_or_of_the_catalog() -> None:
    assert request_topic(Translate, "interactive").name == "poise.translation.requests.interactive"
    assert request_topic(Translate, "batch").name == "poise.translation.requests.batch"
    assert request_topic(Ask, "batch") is REQUESTS[Ask]["batch"]
    with pytest.raises(LookupError, match=r'NoTier names no tier .* `tier = "…"`'):
        request_topic(NoTier, "interactive")


def test_topics_are_recognized_by_their_names() -> None:
    assert find_topic("poise.documents") is CATALOGUE["poise.documents"]
    found = find_topic("poise.translation.requests.batch")
    assert found is not None
    assert (found.tier, found.deadlines) == ("translation", BATCH)
    assert find_topic("poise.translation.dead") is not None
    assert find_topic("poise.translation.retry.10s") is not None
    for name in (
        "mine",
        "poise.Translation.dead",
        "poise.a.b.dead",
        "poise.ask.dead",
        "poise.translation.requests",
        "poise.x.retry.9s",
    ):
        assert find_topic(name) is None


def test_dead_letter_topics_of_custom_tiers_are_found_by_name() -> None:
    names = ["poise.inference.dead", "poise.translation.dead", "poise.ask.dead", "mine.dead", "poise.x.y.dead"]
    assert tiers_with_dead_letters([*names, "poise.translation.requests.batch"]) == ["inference", "translation"]


# -- loading -----------------------------------------------------------------------------------------------------------

TIER = """
from poise.contracts import Message, Request
from poise import Tier

class Done(Message):
    kind = "done/1"

class Do(Request[Done]):
    kind = "do/1"
    reply = Done
    tier = "{tier}"

async def do(request, context): ...

{name} = Tier("{tier}", {{Do: do}})
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])

    def file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return file


def test_a_tier_is_loaded_from_its_file(write: Callable[[str, str], str]) -> None:
    for file, name, where in (("load-a.py", "tier", ""), ("load_b.py", "mine", ":mine"), ("load_c.py", "mine", "")):
        loaded = tier_loader.load(write(file, TIER.format(tier="work", name=name)) + where)
        assert isinstance(loaded, Tier)
        assert loaded.name == "work"


async def test_a_file_may_open_resources_for_its_tier(write: Callable[[str, str], str]) -> None:
    opening = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def tier():
    yield made
"""
    async with tier_loader.open_tier(
        tier_loader.load(write("load_d.py", TIER.format(tier="work", name="made") + opening))
    ) as tier:
        assert tier.name == "work"


@pytest.mark.parametrize(
    ("file", "text", "where", "says"),
    [
        ("load_e.txt", "", "", "there is no Python file"),
        ("load_f.py", "", ":none", "has no tier 'none'"),
        ("load_g.py", "", "", "has none"),
        ("load_h.py", TIER.format(tier="a", name="a") + "b = a", "", "has several .a, b.: name one"),
        ("load_i.py", "import nowhere", "", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("load_j.py", "def f(:", "", "cannot be imported: SyntaxError"),
        ("json.py", "", "", "has the name of another module, json: rename it"),
        ("load_k.py", "tier = 1", "", "has no tier 'tier': it is 1"),
    ],
)
def test_unloadable_tier_is_reported_in_one_line(
    write: Callable[[str, str], str], file: str, text: str, where: str, says: str
) -> None:
    place = write(file, text)
    with pytest.raises(SetupError, match=says):
        tier_loader.load(place + where)


def test_missing_tier_file_is_reported_in_one_line() -> None:
    with pytest.raises(SetupError, match=r"no Python file nowhere\.py"):
        tier_loader.load("nowhere.py")
