"""`DocumentVersions.sync` reads every version announced before the call, however far the reader lags."""

import pytest

from poise.contracts import DocumentVersion, Envelope
from poise.contracts.topics import DOCUMENTS, VERSIONS
from poise.settings import MeshSettings
from poise.worker.runtime import WorkerRuntime
from poise_services.orchestration.document_versions import DocumentVersions

pytestmark = pytest.mark.integration


async def test_sync_reads_all_announced_versions(mesh_settings: MeshSettings, name: str) -> None:
    async with WorkerRuntime(mesh_settings, tier="client") as mesh, DocumentVersions(mesh) as versions:
        documents = await mesh.logs.topic_id(DOCUMENTS.name)
        assert await versions.sync(60.0)
        assert versions.state_of(name) is None
        for number in range(1, 101):
            said = DocumentVersion(documents=documents, digest=str(number))
            await mesh.producer.publish(VERSIONS, said, key=name, envelope=Envelope(doc_version=number))
            assert await versions.sync(60.0)
            known = versions.state_of(name)
            assert known is not None
            assert (known.version, known.digest) == (number, str(number))
