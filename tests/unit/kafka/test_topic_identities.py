"""Topic identities: a topic that was made again is told once, to each who watches it."""

import logging

import pytest

from poise.kafka.topic_identities import TopicIdentities, TopicMetadata


def answer(**ids: str) -> dict[str, TopicMetadata]:
    return {name: TopicMetadata(found, 1) for name, found in ids.items()}


def test_a_topic_that_was_made_again_is_told_once_to_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    identities, one, two, other = TopicIdentities(), list[str](), list[str](), list[str]()
    identities.watch("a", one.append)
    identities.watch("a", two.append)
    identities.watch("b", other.append)
    identities.update(answer(a="1", b="9"))
    assert not one
    identities.update(answer(b="9"))  # deleted
    assert not one
    identities.update(answer(a="2", b="9"))
    identities.update(answer(a="2", b="9"))
    assert (one, two, other) == (["2"], ["2"], [])
    assert caplog.messages == ["topic a was recreated: its id is now 2, and was 1"]


def test_a_broker_that_lags_behind_brings_no_old_topic_back() -> None:
    identities, told = TopicIdentities(), list[str]()
    identities.watch("a", told.append)
    for found in "1", "2", "1", "2", "3", "1":
        identities.update(answer(a=found))
    assert told == ["2", "3"]


def test_one_who_comes_with_an_old_id_is_told_the_new_one() -> None:
    identities, early, late = TopicIdentities(), list[str](), list[str]()
    identities.watch("a", early.append, known="1")
    identities.update(answer(a="2"))
    identities.watch("a", late.append, known="1")
    identities.update(answer(a="2"))
    assert (early, late) == (["2"], ["2"])


def test_one_who_comes_with_a_newer_id_tells_the_others() -> None:
    identities, early, late = TopicIdentities(), list[str](), list[str]()
    identities.watch("a", early.append, known="1")
    identities.watch("a", late.append, known="2")
    assert (early, late) == (["2"], [])
    identities.update(answer(a="1"))
    identities.update(answer(a="2"))
    assert (early, late) == (["2"], [])


def test_who_watches_no_more_is_told_nothing() -> None:
    identities, told = TopicIdentities(), list[str]()
    identities.watch("a", told.append, known="1")
    assert identities.topics == {"a"}
    identities.unwatch("a", told.append)
    identities.update(answer(a="2"))
    assert not told
    assert not identities.topics
    assert identities.latest("a") == TopicMetadata("2", 1)
