import json

from poise.cli.ingest import STATUSES, format_result, headline, to_json
from poise.contracts import Epoch
from poise.ingestion.document_files import RejectedDocument
from poise.ingestion.publish import IngestResult
from poise.kafka.record import Position

EPOCH = Epoch("topic-1", {0: (7, 1.0)})


def ingested(**numbers: int) -> IngestResult:
    done = IngestResult(epoch=EPOCH)
    for status in STATUSES:
        for number in range(numbers.get(status, 0)):
            done.documents[f"{status}-{number}"] = status, Position("poise.documents", 0, number)
    return done


def test_headline_counts_documents_by_state() -> None:
    assert headline(ingested(new=3, unchanged=76)) == "79 documents: 3 new, 76 unchanged"
    assert headline(ingested(changed=1)) == "1 document: 1 changed"
    assert headline(ingested()) == "no documents"


def test_published_counts_new_and_changed_documents() -> None:
    assert ingested(new=3, changed=2, unchanged=76).published == 5


def test_report_lists_rejected_and_indexed_documents() -> None:
    done = ingested(new=3)
    done.rejected.append(RejectedDocument("x.txt", "is empty"))
    done.indexed, done.passages = 3, 40
    assert format_result(done, wait=True).plain == "3 documents: 3 new, 1 refused · indexed as 40 passages"


def test_report_without_waiting_shows_the_min_epoch_option() -> None:
    assert format_result(ingested(new=1), wait=False).plain.endswith(f"\npoise ask --min-epoch {EPOCH.encode()} …")


def test_json_output_has_all_counts() -> None:
    done = ingested(new=2, unchanged=1)
    done.rejected.append(RejectedDocument("x.txt", "is empty"))
    done.pending = ["new-1"]
    assert json.loads(to_json(done)) == {
        "documents": 3,
        "new": 2,
        "changed": 0,
        "unchanged": 1,
        "indexed": 0,
        "passages": 0,
        "refused": [{"name": "x.txt", "why": "is empty"}],
        "waiting": ["new-1"],
        "epoch": EPOCH.encode(),
    }
