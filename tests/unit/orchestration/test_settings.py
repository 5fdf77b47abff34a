import pytest

from poise.contracts.topics import topics_of
from poise.errors import SetupError
from poise.messaging import Tier
from services.orchestration.handlers import handlers
from services.orchestration.settings import OrchestrationSettings


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VARIANTS", '[{"name": "a"}, {"name": "a"}]', "two variants have the same name: a, a"),
        ("VARIANTS", '[{"name": "a", "weight": 0}]', "no variant has a weight above zero"),
        ("VARIANTS", '[{"name": "a", "weight": -1}]', "WEIGHT"),
        ("VARIANTS", '[{"name": "a b"}]', "NAME"),
        ("VARIANTS", '[{"name": "a", "colour": "red"}]', "COLOUR"),
        ("VARIANTS", "[]", "VARIANTS"),
        ("LADDER__GROUNDED", "1.5", "GROUNDED"),
        ("LADDER__RESERVE", "1", "RESERVE"),
        ("POLICY_VERSION", "0", "POLICY_VERSION"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"POISE_ORCHESTRATION_{variable}", value)
    with pytest.raises(SetupError, match=r"POISE_ORCHESTRATION_") as error:
        OrchestrationSettings.load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_variants_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_ORCHESTRATION_VARIANTS", '[{"name": "a"}, {"name": "b", "weight": 3, "sentences": 5}]')
    variants = OrchestrationSettings.load().variants
    assert [(variant.name, variant.weight, variant.sentences) for variant in variants] == [("a", 1.0, 2), ("b", 3.0, 5)]


def test_the_tier_handles_all_that_its_topics_carry() -> None:
    assert Tier("orchestration", handlers(OrchestrationSettings())).topics == topics_of("orchestration")
