import re
from pathlib import Path

import pytest

from poise.contracts import Limits
from poise.policy.policy_file import SETTING_DESCRIPTIONS, STEERING_SCORES, PolicyFileError, read
from poise.settings import MeshSettings
from poise_services.evaluation.settings import EvaluationSettings
from poise_services.orchestration.settings import OrchestrationSettings

GOOD = """\
[orchestration]
policy = "support"

[[orchestration.variants]]
name = "steady"
weight = 9
backend = "cloud"

[[orchestration.variants]]
name = "cheap"

[[orchestration.variants]]
name = "stand-by"
weight = 0

[policy]
min_share = 0.1
min_score = 0.6
max_latency = 4
"""
NAMED = """\
[[orchestration.variants]]
name = "a"
[[orchestration.variants]]
name = "b"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "poise.toml"


def problems(file: Path, text: str | bytes) -> list[str]:
    """Return the problems of a file, without its name."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PolicyFileError) as refused:
        read(file)
    assert all(problem.startswith(f"{file}:") for problem in refused.value.problems)
    assert str(refused.value) == "\n".join(refused.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in refused.value.problems]


def test_a_policy_file_is_read(file: Path) -> None:
    file.write_text(GOOD)
    spec = read(file)
    assert (spec.name, spec.weights) == ("support", {"steady": 9.0, "cheap": 1.0, "stand-by": 0.0})
    assert spec.limits == Limits(min_share=0.1, min_score=0.6, max_latency=4.0)
    assert not spec.dry_run


@pytest.mark.parametrize("text", [NAMED, "\ufeff" + NAMED, NAMED.replace("\n", "\r\n")])
def test_missing_limits_have_their_defaults(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    spec = read(file)
    assert (spec.name, spec.weights, spec.limits) == ("answer", {"a": 1.0, "b": 1.0}, Limits())


def test_the_documented_example_is_valid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "RUNNING.md").read_text(encoding="utf-8")
    [example] = [
        block
        for block in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if "[policy]" in block and "[[orchestration.variants]]" in block
    ]
    file.write_text(example)
    spec = read(file)
    assert spec.weights == {"steady": 0.9, "cheap": 0.1}
    assert spec.limits == Limits(min_score=0.6, max_latency=4.0, max_cost=0.002)
    monkeypatch.setenv("POISE_CONFIG", str(file))
    assert {variant.name: variant.weight for variant in OrchestrationSettings.load().variants} == spec.weights
    MeshSettings.load()
    EvaluationSettings.load()
    listed = re.findall(r"^poise: poise.toml:(.*)$", page, re.MULTILINE)
    file.write_text(example.replace("min_share =", "min_shaer =").replace("min_score = 0.6", "min_score = 1.5"))
    with pytest.raises(PolicyFileError) as refused:
        read(file)
    assert [problem.removeprefix(f"{file}:") for problem in refused.value.problems] == listed


def test_other_tables_are_skipped(file: Path) -> None:
    file.write_text(f'[mesh]\nbroker = "x:1"\n{NAMED}[orchestration.ladder]\ndeadline_reserve = 0.1\n')
    assert read(file).weights == {"a": 1.0, "b": 1.0}


def test_each_setting_is_applied() -> None:
    assert set(SETTING_DESCRIPTIONS) == set(Limits.model_fields)
    assert Limits().score in STEERING_SCORES


ONE = [  # line 6, in [policy], and the beginning of the problem that it causes
    ("min_shaer = 0.1", "[policy] has no setting min_shaer: did you mean min_share?"),
    ("zebra = 1", f"[policy] has no setting zebra: there are {', '.join(Limits.model_fields)}"),
    ("dry_run = true", "--dry-run"),
    ("weights = {a = 1}", "[[orchestration.variants]]"),
    (
        "min_share = 0.7",
        "min_share = 0.7: write 0.5 or less: it is the minimum share of the draws for each variant",
    ),
    ("min_share = -0.1", "min_share = -0.1: write 0 or more"),
    ('min_share = "0.1"', 'min_share = "0.1": write a number'),
    ("min_share = nan", "min_share = nan: write a finite number"),
    ("min_share = {x = 1}", "min_share = a table: write a number"),
    ("step = 0", "step = 0: write more than 0"),
    ("step = 1.5", "step = 1.5: write 1 or less"),
    ("cooldown_answers = 0", "cooldown_answers = 0: write 1 or more"),
    ("cooldown_answers = 20.0", "cooldown_answers = 20.0: write a whole number"),
    ("cooldown_answers = true", "cooldown_answers = true: write a whole number"),
    ("mean_answers_between_false_alarms = 99", "mean_answers_between_false_alarms = 99: write 100 or more"),
    ("margin = 0.0", "margin = 0.0: write more than 0"),
    ("margin = []", "margin = an array: write a number"),
    ("min_score = 1.01", "min_score = 1.01: write 1 or less: it is the minimum mean of the score that steers"),
    ("min_score = -0.5", "min_score = -0.5: write 0 or more"),
    ("max_latency = 0", "max_latency = 0: write more than 0"),
    (f"max_latency = 1{'0' * 400}", "…: write a number"),
    ("max_latency = inf", "max_latency = inf: write a finite number; omit it for no limit"),
    ("max_cost = 2024-01-01", "max_cost = 2024-01-01: write a number"),
    ("score = 3", "score = 3: write a string: it is the score that steers"),
    ('score = "qualty"', "did you mean quality?"),
    ('score = "zebra"', "there is no such score; choose one of quality, raw_groundedness, raw_relevance"),
    ('score = "groundedness"', "the answer that was sent may be another variant's"),
    ('score = "latency_ms.total"', "limit them with max_latency and max_cost"),
    ('score = "refused"', "it counts failures"),
]


@pytest.mark.parametrize(("line", "said"), ONE, ids=[line for line, _ in ONE])
def test_invalid_values_in_policy_are_refused(file: Path, line: str, said: str) -> None:
    [problem] = problems(file, f"{NAMED}[policy] # limits\n{line}\n")
    assert problem.startswith("6: ")
    assert said in problem


@pytest.mark.parametrize(("old", "new"), Limits.renamed.items())
def test_an_old_name_is_refused_with_the_new_one(file: Path, old: str, new: str) -> None:
    assert problems(file, f"{NAMED}[policy]\n{old} = 0.5\n") == [f"6: [policy] {old} was renamed: set {new}"]


VARIANTS = [
    ('[orchestration]\npolicy = "a b"\n' + NAMED, 2, '[orchestration] policy = "a b": a name has'),
    ("[orchestration]\npolicy = 3\n" + NAMED, 2, "[orchestration] policy = 3: a name has"),
    ("policy = 3\n" + NAMED, 1, "policy is 3: write a table, [policy]"),
    (f"{NAMED}[polcy]\nmin_score = 0.5\n", 5, "[polcy] is unknown: did you mean [policy]?"),
    ("[policy]\nmin_score = 0.5\n", 1, "there is no variant: define each"),
    ("\n[orchestration]\nvariants = []\n", 3, "there is no variant"),
    ('[orchestration.variants]\nname = "a"\n', 1, "write [[orchestration.variants]] above each"),
    ('[orchestration]\nvariants = ["a"]\n', 2, "write [[orchestration.variants]] above each"),
    (f"{NAMED}[[orchestration.variants]]\nweight = 1\n", 5, "the variant has no name"),
    (f'{NAMED}[[orchestration.variants]]\nname = "a"\n', 6, 'two variants have the name "a"'),
    (f'{NAMED}[[orchestration.variants]]\nname = "a\\u001b[2J"\n', 6, "a name has 1 to 80 letters"),
    (f"{NAMED}wieght = 2\n", 5, "a variant has no setting wieght: did you mean weight?"),
    (f"{NAMED}weight = -1\n", 5, "weight = -1: write 0 to 1e+12"),
    (f"{NAMED}weight = nan\n", 5, "weight = nan: write 0 to 1e+12"),
    (f"{NAMED}weight = inf\n", 5, "weight = inf: write 0 to 1e+12"),
    (f'{NAMED}weight = "9"\n', 5, 'weight = "9": write a number'),
    (f"{NAMED}weight = 1{'0' * 400}\n", 5, "…: write 0 to 1e+12"),
    (f"{NAMED}weight = true\n", 5, "weight = true: write a number"),
    ('[[orchestration.variants]]\nname = "a"\nweight = 0\n', 1, "no variant has a weight above zero"),
    ('[orchestration]\nvariants = [\n  {name = "a"},\n  {name = "b", weight = -1},\n]\n', 4, "weight = -1"),
    (
        f"{NAMED}[[orchestration.variants]]\nname = 'c'\n[policy]\nmin_share = 0.4\n",
        8,
        "3 variants cannot each have 40%",
    ),
    (f"{NAMED}[policy]\nmax_cost = 0.01\n", 6, "max_cost = 0.01: the cost of an answer is not known"),
    (NAMED + "a = 1\nb == 2\n", 6, "is not valid TOML: Invalid value, at column 4"),
    (f"{NAMED}[policy]\n[policy]\n", 6, "is not valid TOML: Cannot declare"),
    (f'{NAMED}system = """\nYou are\n', 5, "the value that begins here is not closed"),
]


@pytest.mark.parametrize(("text", "line", "said"), VARIANTS, ids=[said for _, _, said in VARIANTS])
def test_other_invalid_files_are_refused(file: Path, text: str, line: int, said: str) -> None:
    [problem] = problems(file, text)
    assert problem.startswith(f"{line}: "), problem
    assert said in problem
    assert "\x1b" not in problem


def test_a_number_that_cannot_be_parsed_is_refused(file: Path) -> None:
    [problem] = problems(file, f"{NAMED}weight = {'1' * 5_000}\n")
    assert "has a value that cannot be read: Exceeds the limit" in problem


def test_a_value_in_place_of_a_table_is_refused(file: Path) -> None:
    assert problems(file, "orchestration = 3\n")[0] == "1: orchestration is 3: write a table, [orchestration]"


def test_all_problems_are_reported_in_the_order_of_the_file(file: Path) -> None:
    variants = '[[orchestration.variants]]\nname = "a"\nweight = -1\n[[orchestration.variants]]\n'
    text = f"[policy]\nmin_shaer = 1\nmin_score = 2\n\n{variants}"
    assert [re.split(r"[ =:]", problem)[0] for problem in problems(file, text)] == ["2", "3", "7", "8"]


def test_more_variants_than_the_default_minimum_share_allows(file: Path) -> None:
    text = "".join(f"[[orchestration.variants]]\nname = 'v{number}'\n" for number in range(21))
    assert problems(file, text) == [
        "1: min_share = 0.05: 21 variants cannot each have 5% of the draws: the maximum is 0.047"
    ]
    file.write_text(f"{text}weight = 0\n")  # a variant that is never drawn needs no share
    assert len(read(file).weights) == 21


def test_an_unreadable_file_is_refused(file: Path, tmp_path: Path) -> None:
    unreadable = f'{NAMED}system = "'.encode() + b'\xff"'
    assert problems(file, unreadable) == ["5: is not UTF-8: save the file in that encoding"]
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(PolicyFileError, match=f"{path}: cannot be read: {why}"):
            read(path)


def test_a_deeply_nested_file_is_refused(file: Path) -> None:
    assert "nested too deeply" in problems(file, f"a = {'[' * 4_000}{']' * 4_000}\n")[0]


def test_a_file_or_line_that_is_too_long_is_refused(file: Path) -> None:
    file.write_text(GOOD + "#" * 10_001)
    with pytest.raises(PolicyFileError, match=r":20: the line has 10001 characters; the maximum is 10000$"):
        read(file)
    file.write_text(GOOD + "\n" * 300_000)
    with pytest.raises(PolicyFileError, match=r"has 300\d+ bytes; the maximum is 262144$"):
        read(file)
