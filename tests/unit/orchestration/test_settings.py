import re
import tomllib
from pathlib import Path

import pytest

from poise.contracts.topics import topics_of_tier
from poise.errors import SetupError
from poise.worker.tier import Tier
from poise_services.inference.settings import InferenceSettings
from poise_services.orchestration.handlers import handlers
from poise_services.orchestration.settings import NO_ANSWER, LadderSettings, OrchestrationSettings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VARIANTS", '[{"name": "a"}, {"name": "a"}]', "two variants have the same name: a, a"),
        ("VARIANTS", '[{"name": "a", "weight": 0}]', "no variant has a weight above zero"),
        ("VARIANTS", '[{"name": "a", "weight": -1}]', "WEIGHT"),
        ("VARIANTS", '[{"name": "a b"}]', "NAME"),
        ("VARIANTS", '[{"name": "a", "colour": "red"}]', "COLOUR"),
        ("VARIANTS", "[]", "VARIANTS"),
        ("LADDER__MIN_GROUNDEDNESS", "1.5", "MIN_GROUNDEDNESS"),
        ("LADDER__DEADLINE_RESERVE", "1", "DEADLINE_RESERVE"),
        ("LADDER__RUNGS", '["canned", "primary"]', "in the order primary, variant, stale, extractive, canned"),
        ("LADDER__RUNGS", '["primary", "primary", "canned"]', "each once"),
        ("LADDER__RUNGS", '["primary", "extractive"]', "the last rung must be 'canned'"),
        ("LADDER__RUNGS", "[]", "the last rung must be 'canned'"),
        ("LADDER__RUNGS", '["variant", "canned"]', "use both, or neither"),
        ("LADDER__CANNED", '[{"text": "a", "tenant": "b"}]', "one text must have neither tenant nor language"),
        (
            "LADDER__CANNED",
            '[{"text": "a"}, {"text": "b", "language": "de"}, {"text": "c", "language": "DE"}]',
            "two texts",
        ),
        ("LADDER__CANNED", '[{"text": "a"}, {"text": "b", "language": "de_AT"}]', "LANGUAGE"),
        ("VARIANTS", '[{"name": "a", "input_token_price": 1}]', "input_token_price and output_token_price"),
    ],
)
def test_invalid_settings_are_rejected_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"POISE_ORCHESTRATION_{variable}", value)
    with pytest.raises(SetupError, match=r"POISE_ORCHESTRATION_") as error:
        OrchestrationSettings.load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_variants_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "POISE_ORCHESTRATION_VARIANTS", '[{"name": "a"}, {"name": "b", "weight": 3, "prompt_sentences": 5}]'
    )
    variants = OrchestrationSettings.load().variants
    assert [(variant.name, variant.weight, variant.prompt_sentences) for variant in variants] == [
        ("a", 1.0, 2),
        ("b", 3.0, 5),
    ]


def test_the_tier_handles_every_message_of_its_topics() -> None:
    assert Tier("orchestration", handlers(OrchestrationSettings())).topics == topics_of_tier("orchestration")


def test_the_documented_table_is_complete_and_can_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (ROOT / "docs/RUNNING.md").read_text(encoding="utf-8")
    (table,) = [
        block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[orchestration.ladder]" in block
    ]
    (tmp_path / "poise.toml").write_text(table, encoding="utf-8")
    monkeypatch.setenv("POISE_CONFIG", str(tmp_path / "poise.toml"))
    monkeypatch.setenv("POISE_INFERENCE_BACKENDS__CLOUD__API_KEY", "secret")

    assert tomllib.loads(table)["orchestration"]["ladder"].keys() == LadderSettings.model_fields.keys()
    settings, backends = OrchestrationSettings.load(), InferenceSettings.load().backends
    assert settings.ladder.model_copy(update={"canned": LadderSettings().canned}) == LadderSettings(), (
        "it says what holds without it"
    )
    assert settings.ladder.canned[0].text == NO_ANSWER
    assert {variant.backend for variant in settings.variants} == backends.keys()
    assert (key := backends["cloud"].api_key) is not None
    assert key.get_secret_value() == "secret"
    assert str(backends["cloud"].url) == "https://models.example/v1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[orchestration]\nworkflow = ["brief.py"]\n',
            r"toml: \[orchestration\] has no setting workflow: .*flows",
        ),
        ("[orchestration.ladder]\nmax_failover = 0\n", "LADDER__MAX_FAILOVER"),
        ("[orchestration\n", r"poise\.toml, which POISE_CONFIG names, cannot be read: .*line 1"),
    ],
)
def test_an_invalid_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "poise.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("POISE_CONFIG", str(tmp_path / "poise.toml"))
    with pytest.raises(SetupError, match=told):
        OrchestrationSettings.load()
