"""The observers of the lab, the balance act and `poise ingest` skip undecodable records and read the next ones."""

from uuid import uuid4

import pytest
from decider_kit import score_of

from poise.contracts import Envelope, Manifest, RunRecord
from poise.contracts.record import Draw
from poise.contracts.topics import DECISIONS, DOCUMENTS, PASSAGES, POLICY, POLICY_STATE, RECORDS, SCORES
from poise.ingestion.indexing_watcher import Indexed, IndexingWatcher
from poise.kafka.record import Position
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_labs.balance.observer import BalanceObserver
from poise_labs.balance.timeline import Timeline
from poise_labs.lab import observer as lab

pytestmark = pytest.mark.integration


async def test_undecodable_records_are_skipped(mesh_settings: MeshSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "SCORE_TIMEOUT", 20.0)
    run, policy = uuid4().hex, f"p-{uuid4().hex[:8]}"
    draw = Draw(policy=policy, policy_version=1, variant="steady", probability=1.0)
    record = RunRecord(run_id=run, workflow="answer", tenant="t", question="?", started=1.0, finished=2.0, draw=draw)
    async with (
        WorkerRuntime(mesh_settings, tier="client") as mesh,
        lab.LabObserver(mesh, policy) as lab_observer,
        BalanceObserver(mesh, Timeline(("steady", "cheap"), began=1.0, now=1.0), policy) as balance_observer,
        IndexingWatcher(mesh) as indexing,
    ):
        for topic in (RECORDS, SCORES, DECISIONS, POLICY, POLICY_STATE):
            for value in (b"no JSON", b"{}"):
                await mesh.producer.records.send(topic.name, value, key=policy.encode(), headers=[])
        await mesh.producer.publish(SCORES, score_of(run, "steady", policy=policy), key=policy)
        await mesh.producer.publish(RECORDS, record, key=policy)
        await lab_observer.scored([run])
        assert await balance_observer.scored(run, seconds=20.0)

        document = uuid4().hex
        kind = [("poise-kind", Manifest.kind.encode())]
        await mesh.producer.records.send(PASSAGES.name, b"no JSON", key=document.encode(), headers=kind, partition=0)
        manifest = Manifest(document=document, parts=0, published=1.0)
        indexing.expect(document, Position(DOCUMENTS.name, 0, 7, 1.0))
        await mesh.producer.publish(
            PASSAGES, manifest, key=f"{document}#manifest", partition=0, envelope=Envelope(doc_version=7)
        )
        assert [one async for one in indexing.outcomes(20.0)] == [Indexed(document, 0)]
