"""Topic identities: each watcher of a recreated topic is notified once."""

import logging

import pytest

from poise.kafka.topic_identities import TopicIdentities, TopicMetadata


def answer(**ids: str) -> dict[str, TopicMetadata]:
    return {name: TopicMetadata(found, 1) for name, found in ids.items()}


def test_each_watcher_is_notified_once_of_a_recreated_topic(caplog: pytest.LogCaptureFixture) -> None:
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


def test_an_old_id_from_a_broker_that_lags_behind_is_ignored() -> None:
    identities, told = TopicIdentities(), list[str]()
    identities.watch("a", told.append)
    for found in "1", "2", "1", "2", "3", "1":
        identities.update(answer(a=found))
    assert told == ["2", "3"]


def test_a_watcher_with_an_old_id_is_notified_of_the_new_one() -> None:
    identities, early, late = TopicIdentities(), list[str](), list[str]()
    identities.watch("a", early.append, known="1")
    identities.update(answer(a="2"))
    identities.watch("a", late.append, known="1")
    identities.update(answer(a="2"))
    assert (early, late) == (["2"], ["2"])


def test_a_watcher_with_a_newer_id_causes_the_others_to_be_notified() -> None:
    identities, early, late = TopicIdentities(), list[str](), list[str]()
    identities.watch("a", early.append, known="1")
    identities.watch("a", late.append, known="2")
    assert (early, late) == (["2"], [])
    identities.update(answer(a="1"))
    identities.update(answer(a="2"))
    assert (early, late) == (["2"], [])


def test_a_watcher_that_stopped_is_not_notified() -> None:
    identities, told = TopicIdentities(), list[str]()
    identities.watch("a", told.append, known="1")
    assert identities.topics == {"a"}
    identities.unwatch("a", told.append)
    identities.update(answer(a="2"))
    assert not told
    assert not identities.topics
    assert identities.latest("a") == TopicMetadata("2", 1)
