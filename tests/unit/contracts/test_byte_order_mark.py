"""A byte order mark before JSON or TOML, as editors and libraries on Windows write it, is ignored."""

import codecs
import re
from pathlib import Path

import pytest
from source_tree import source_files

from poise.contracts import Ask
from poise.policy.policy_file import read
from poise.settings import MeshSettings
from poise.stack.options import default_workers
from poise_labs.lab.scenario import load_scenario
from poise_services.inference.chat import parse_completion
from poise_services.inference.settings import Backend

ROOT = Path(__file__).parents[3]
BOM = codecs.BOM_UTF8


@pytest.mark.parametrize("strict", [True, False])
def test_body_with_a_byte_order_mark_is_parsed(strict: bool) -> None:
    assert Ask.parse(BOM + b'{"question": "Why?"}', strict=strict).question == "Why?"
    assert Ask.parse('\ufeff{"question": "Why?"}', strict=strict).question == "Why?"


def test_model_response_with_a_byte_order_mark_is_parsed() -> None:
    answered = BOM + b'{"choices": [{"message": {"content": "Because."}, "finish_reason": "stop"}]}'
    backend = Backend.model_validate({"url": "http://127.0.0.1:1", "model": "m"})
    assert parse_completion(answered, name="b", backend=backend).text == "Because."


def test_toml_file_with_a_byte_order_mark_is_parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "poise.toml"
    monkeypatch.setenv("POISE_CONFIG", str(file))
    file.write_bytes(BOM + b'[mesh]\ntenant = "acme"\n')
    assert MeshSettings.load().tenant == "acme"
    file.write_bytes(BOM + b'[integration.integrations.weather]\nurl = "https://weather.example"\n')
    assert default_workers()["integration"] == 1
    file.write_bytes(BOM + b'[[orchestration.variants]]\nname = "a"\n[[orchestration.variants]]\nname = "b"\n')
    assert set(read(file).weights) == {"a", "b"}
    shipped = ROOT / "labs/poise_labs/lab/scenarios/worse.toml"
    file.write_bytes(BOM + shipped.read_bytes())
    assert load_scenario(str(file)).about


def test_no_other_module_opens_toml_files() -> None:
    """Check that texts are decoded as utf-8-sig for `tomllib.loads`; `tomllib.load` refuses the mark."""
    assert not [
        path for _, path in source_files() if re.search(r"tomllib\.load\(|TomlConfigSettingsSource", path.read_text())
    ]
