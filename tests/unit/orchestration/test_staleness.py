"""Whether a cached answer is still fresh."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Answer, DocumentVersion, Envelope
from poise.kafka.record import Record
from poise.redis.answer_store import CachedAnswer, Dependency
from poise_services.orchestration.document_versions import DocumentState, VersionMap
from poise_services.orchestration.staleness import epoch_reached, staleness_of

TOPIC = "AAAA"
EPOCH = f"e1.{TOPIC}.0~5~1000"
MADE = 1_000.0
MAX_AGE = 100.0


@dataclass
class VersionLog:
    """A log of versions, as the retrieval tier writes it."""

    known: VersionMap
    records: int = 0

    def say(self, document: str, version: int, digest: str | None, at: float = 0.0, topic: str = TOPIC) -> None:
        body = DocumentVersion(documents=topic, digest=digest).encode()
        headers = tuple(Envelope(doc_version=version).headers())
        self.known.apply(Record("poise.versions", 0, self.records, at, document.encode(), body, headers))
        self.records += 1


def log() -> VersionLog:
    return VersionLog(VersionMap(TOPIC))


def entry(*digests: str | None, made: float = MADE, epoch: str | None = EPOCH) -> CachedAnswer:
    grounds = tuple(Dependency(document=f"d{n}", source=f"book {n}", digest=d) for n, d in enumerate(digests))
    answer = Answer(run_id="r", text="It is so.", rung="primary", epoch=epoch)
    return CachedAnswer(
        answer=answer, computation_started_at=made - 1, computed_at=made, dependencies=grounds, duration_ms=5.0
    )


def why(kept: CachedAnswer, written: VersionLog, now: float = MADE + 1) -> str | None:
    return staleness_of(kept, written.known.documents.get, TOPIC, max_age=MAX_AGE, now=now).reason


digests = st.sampled_from(["a", "b", None])


@given(st.lists(st.tuples(st.integers(0, 2), digests, st.integers(0, 30)), max_size=30), st.integers(0, 30))
def test_an_answer_is_fresh_only_if_all_its_documents_are_unchanged(
    said: list[tuple[int, str | None, int]], at: int
) -> None:
    """Compare with a simple model: the highest version of a document counts, in whatever order versions arrive."""
    written, last = log(), dict[int, tuple[int, str | None]]()
    for document, digest, version in said:
        written.say(f"d{document}", version, digest)
        if document not in last or version > last[document][0]:
            last[document] = (version, digest)
    kept = entry("a", "b")
    fresh = [last.get(n, (0, None))[1] for n in (0, 1)] == ["a", "b"]
    assert (why(kept, written, now=MADE + at) is None) == fresh


@given(st.lists(st.tuples(digests, st.integers(0, 12)), min_size=1, max_size=12), st.integers(0, 12))
def test_a_version_has_the_current_content_only_if_no_change_came_between(
    said: list[tuple[str | None, int]], asked: int
) -> None:
    written = log()
    accepted: list[tuple[int, str | None]] = []
    for digest, version in said:
        written.say("d", version, digest)
        if not accepted or version > accepted[-1][0]:
            accepted.append((version, digest))
    known = written.known.documents["d"]
    run = [accepted[-1][0]]
    for version, digest in reversed(accepted):
        if digest != accepted[-1][1]:
            break
        run.append(version)
    assert known.same_content(asked) == (min(run) <= asked <= accepted[-1][0])
    assert (known.version, known.digest) == accepted[-1]


def test_the_reason_and_the_time_of_staleness() -> None:
    written = log()
    written.say("d0", 1, "a", at=1.0)
    written.say("d1", 2, "b", at=2.0)
    kept = entry("a", "b")
    assert why(kept, written) is None
    written.say("d0", 3, "a", at=MADE + 2)
    assert why(kept, written) is None, "it was ingested again, unchanged"
    written.say("d1", 4, "c", at=MADE + 5)
    aged = staleness_of(kept, written.known.documents.get, TOPIC, max_age=MAX_AGE, now=MADE + 9)
    assert (aged.reason, aged.since) == ("book 1 has changed", MADE + 5)
    assert aged.within(4.0, MADE + 9)
    assert not aged.within(3.9, MADE + 9)
    assert not aged.deleted
    written.say("d1", 5, None, at=MADE + 6)
    assert why(kept, written) == "book 1 was deleted"
    assert staleness_of(kept, written.known.documents.get, TOPIC, max_age=MAX_AGE, now=MADE + 9).deleted


def test_an_answer_is_stale_from_the_end_of_max_age() -> None:
    written = log()
    written.say("d0", 1, "a")
    aged = staleness_of(entry("a"), written.known.documents.get, TOPIC, max_age=MAX_AGE, now=MADE + MAX_AGE + 7)
    assert (aged.reason, aged.since) == ("it is older than 100 s", MADE + MAX_AGE)
    assert why(entry("a"), written, now=MADE + MAX_AGE) is None


def test_an_unknown_document_counts_as_changed() -> None:
    written = log()
    assert why(entry("a"), written) == "whether book 0 has changed is not known"
    written.say("d0", 1, "a")
    assert why(entry(None), written) == "whether book 0 has changed is not known"
    assert why(entry("a", epoch="e1.BBBB.0~5~1000"), written) == "the documents topic was recreated"
    assert why(entry("a", epoch="nonsense"), written) == "the documents topic was recreated"


def test_a_record_that_cannot_be_read_leaves_its_document_unknown() -> None:
    written = log()
    written.say("d0", 1, "a")
    for body, headers in ((b"{", Envelope(doc_version=2).headers()), (None, ()), (b"[]", ())):
        with pytest.raises(ValueError):  # noqa: PT011 - each says it in its own way
            written.known.apply(Record("poise.versions", 0, 1, 0.0, b"d0", body, tuple(headers)))
        assert why(entry("a"), written) is not None
        written.say("d0", 3, "a")


def test_a_version_without_its_number_leaves_its_document_unknown() -> None:
    written = log()
    written.say("d0", 1, "a")
    body = DocumentVersion(documents=TOPIC, digest="b").encode()
    with pytest.raises(ValueError, match="poise-doc-version is missing"):
        written.known.apply(Record("poise.versions", 0, 1, 0.0, b"d0", body, ()))
    assert why(entry("a"), written) is not None


def test_versions_of_another_documents_topic_count_after_the_switch() -> None:
    written = log()
    written.say("d0", 7, "a")
    written.say("d0", 1, "b", topic="BBBB")
    before = written.known.topic_may_have_changed
    assert written.known.documents["d0"].digest == "a"
    written.known.switch(TOPIC)
    assert (before, written.known.topic_may_have_changed) == (True, False), "the topic's id is looked up once"
    assert written.known.documents["d0"].digest == "a"
    written.known.switch("BBBB")
    assert written.known.documents["d0"].digest == "b"
    assert not written.known.other_topics


def test_the_requested_epoch_must_be_reached() -> None:
    assert epoch_reached(None, None)
    assert epoch_reached(EPOCH, f"e1.{TOPIC}.0~5~9")
    assert not epoch_reached(EPOCH, f"e1.{TOPIC}.0~6~9")
    assert not epoch_reached(EPOCH, "e1.BBBB.0~1~9")
    assert not epoch_reached(None, EPOCH)
    assert not epoch_reached(EPOCH, "nonsense")


def test_same_content_covers_the_versions_from_the_last_change_to_the_current() -> None:
    assert [DocumentState(2, 4, "a", 0.0).same_content(version) for version in (1, 2, 4, 5)] == [
        False,
        True,
        True,
        False,
    ]
