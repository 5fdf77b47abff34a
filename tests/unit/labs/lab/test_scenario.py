from pathlib import Path

import pytest

from poise.contracts.policy import Limits
from poise_labs.lab.scenario import ScenarioError, load_scenario, parse_scenario, scenario_names

SOUND = """\
about = "A variant gets worse"
asks = 100
rate = 10

[[variants]]
name = "steady"
wrong = 0.05

[[variants]]
name = "cheap"
wrong = 0.05

[degradation]
variant = "cheap"
begins = 40
ends = 80
wrong = 0.4
"""


def test_bundled_scenarios_are_valid_and_named_after_their_files() -> None:
    assert scenario_names() == ["flapping", "quiet", "slow", "worse"]
    assert [load_scenario(name).name for name in scenario_names()] == scenario_names()


def test_degradation_changes_only_the_configured_behavior_of_its_variant() -> None:
    found = parse_scenario(SOUND, "s")
    usual, now = found.usual("cheap"), found.behavior("cheap", 40)
    assert (usual.wrong, now.wrong) == (0.05, 0.4)
    assert now == usual.model_copy(update={"wrong": 0.4})
    assert found.behavior("steady", 40) == found.usual("steady")


def test_degradation_lasts_from_begins_up_to_ends() -> None:
    found = parse_scenario(SOUND, "s")
    assert [number for number in range(100) if found.is_degraded(number)] == list(range(40, 80))
    assert found.behavior("cheap", 39) == found.behavior("cheap", 80) == found.usual("cheap")


def test_fewer_asks_scale_the_degradation() -> None:
    found = parse_scenario(SOUND, "s").of_asks(50)
    assert found.degradation is not None
    assert (found.asks, found.degradation.begins, found.degradation.ends) == (50, 20, 40)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("asks = 100", "asks = 0", "s.toml:2: asks: Input should be greater than or equal to 1"),
        ("rate = 10", "rate = 10\nspeed = 3", "s.toml:4: speed: Extra inputs are not permitted"),
        ('name = "cheap"\nwrong = 0.05', "wrong = 1.5", "s.toml:10: variants.1.wrong"),
        ('name = "cheap"\n', "", "s.toml:9: variants.1.name: Field required"),
        ('name = "cheap"', 'name = "steady"', "s.toml:1: two variants have the same name: steady, steady"),
        (
            'variant = "cheap"',
            'variant = "dear"',
            "s.toml:1: the degradation is of 'dear', but the variants are",
        ),
        ("ends = 80", "ends = 101", "s.toml:1: the degradation must begin before it ends, and end within 100 asks"),
        ("rate = 10", 'rate = 10\nhurt = "slow"', "s.toml:1: slow answers need a ceiling"),
        ("rate = 10", "rate = ", "s.toml:3: is not TOML"),
        (
            "rate = 10",
            "rate = 10\n[policy]\nstep = 0.5\nmin_shaer = 0.1",
            "s.toml:6: policy.min_shaer: Extra inputs are not permitted",
        ),
        *(
            (
                "rate = 10",
                f"rate = 10\n[policy]\n{old} = 1",
                f"s.toml:5: policy.{old} was renamed: set {new}",
            )
            for old, new in Limits.renamed.items()
        ),
        ("[degradation]", "[trouble]", "s.toml:13: trouble was renamed: set degradation"),
    ],
)
def test_invalid_scenario_is_rejected_with_its_line(tmp_path: Path, was: str, becomes: str, told: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SOUND.replace(was, becomes))
    with pytest.raises(ScenarioError) as refused:
        load_scenario(str(path))
    assert told in str(refused.value).replace(str(tmp_path) + "/", "")


def test_unknown_scenario_error_lists_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match="there is no scenario and no file 'worst': use flapping, quiet"):
        load_scenario("worst")
