"""Loading the embedding model sends no telemetry and writes nothing to the home folder."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
EMBED = "from poise.embedding import EmbeddingModel; print(len(EmbeddingModel().embed('hello')))"


def test_loading_the_model_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """Unset CI and ORT_DISABLE_TELEMETRY: without them, onnxruntime keeps a device id there and sends telemetry."""
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    environment = {**kept, "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    environment = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    done = subprocess.run([sys.executable, "-c", EMBED], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "384\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
