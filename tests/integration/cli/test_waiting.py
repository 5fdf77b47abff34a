import json
from pathlib import Path
from uuid import uuid4

import pytest
from integration_kit import Command

pytestmark = pytest.mark.integration


async def test_ingest_without_a_retrieval_worker_names_the_waiting_documents(poise: Command, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"words of {uuid4()}", encoding="utf-8")
    prefix = f"{uuid4().hex[:8]}/"
    shown = await poise("ingest", str(tmp_path), "--prefix", prefix, "--idle-timeout", "0.3", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["waiting"] == [f"{prefix}a.txt"]
    assert shown.stderr.splitlines()[-1].startswith("poise: nothing was indexed for 0.3 s, and 1 document wait")
