# ruff: noqa: T201 - a benchmark prints its results
"""How well each score separates right from wrong answers: `python -m tests.benchmarks.scores [--plots FOLDER]`.

There are two labeled sets: answers made from the demo's corpus by seeded edits, and answers of the built-in model that
were labeled one by one (by the rule in tests/benchmarks/answers.md). The report has the AUC of each score with a 95 %
interval by resampling questions, its calibration, and its cost. `quality` uses coefficients fitted on other questions.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from poise.embedding import EmbeddingModel
from poise.scoring import Embed
from poise.scoring.quality import LEXICAL, SEMANTIC
from tests.benchmarks.scores import cost, measured, semantic
from tests.benchmarks.scores.edits import GOOD, edited
from tests.benchmarks.scores.fit import EDITS_COUNT, TrainingExample, fit, held_out, qualities, training_examples
from tests.benchmarks.scores.labeled import LabeledAnswer, cases_of_prompt, judged, scored
from tests.benchmarks.scores.plot import reliability_svg
from tests.benchmarks.scores.separation import Judgment, auc, calibration_error, reliability, separation

SCORES: Final = ("quality", "raw_groundedness", "raw_relevance")
FLAGS: Final = ("empty", "degenerate", "truncated", "refused")
MIXES: Final = ("production", "closed book")

Set = tuple[Sequence[LabeledAnswer], Sequence[dict[str, float]]]


def main() -> None:
    """Measure, print, and write the requested files."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--plots", type=Path, help="a folder for the reliability plots, as SVG")
    made.add_argument("--write", action="store_true", help=f"write {measured.FILE.name}")
    made.add_argument("--fit", action="store_true", help="fit the coefficients of quality again, and print them")
    made.add_argument("--embedding", action="store_true", help="only compare quality by words with that by meaning")
    arguments = made.parse_args()
    real, made_up = judged(), edited()
    sets: dict[str, Set] = {"real": (real, scored(real)), "edits": (made_up, scored(made_up))}
    embed = EmbeddingModel().embed if arguments.embedding else None
    if arguments.fit:
        in_use = SEMANTIC if embed else LEXICAL
        print(f"in use: {in_use}\nfitted: {fit(to_fit(sets, embed), in_use)}")
    if embed:
        semantic.show(sets, embed)
        return
    tables = [*separations(sets, arguments.plots), *mixes()]
    flags(sets)
    by_edit(*sets["edits"])
    cost.show(real, made_up)
    if arguments.write:
        measured.FILE.write_text("\n".join([measured.HEAD, *tables]))


def to_fit(sets: dict[str, Set], embed: Embed | None = None) -> list[TrainingExample]:
    """Return the answers to fit the coefficients of quality on."""
    return training_examples(*sets["real"], 1.0, embed) + training_examples(*sets["edits"], EDITS_COUNT, embed)


def separations(sets: dict[str, Set], plots: Path | None) -> list[str]:
    """Print and return the statistics of each score on each set."""
    tables = []
    for name, (cases, values) in sets.items():
        of_others = qualities(cases, values, held_out(to_fit(sets))) if name == "real" else None
        print(f"\n{name}: {len(cases)} answers, {sum(case.right for case in cases)} right")
        print(f"  {'':18}{'AUC':>5}  {'95 %':11}  {'threshold':>9} {'sensitivity':>11} {'specificity':>11} {'ECE':>5}")
        for score in SCORES:
            found = of_others if of_others and score == "quality" else [one.get(score, 0.0) for one in values]
            said = [Judgment(case.ask, at, case.right) for case, at in zip(cases, found, strict=True)]
            result, bins = separation(said), reliability(said)
            print(
                f"  {score:18}{result.auc:5.2f}  {result.low:.2f} – {result.high:.2f}  {result.threshold:9.2f} "
                f"{result.sensitivity:11.2f} {result.specificity:11.2f} {calibration_error(bins):5.2f}"
            )
            print("    said → right: " + "  ".join(f"{one.mean:.2f} → {one.right:.2f}" for one in bins))
            tables.append(measured.table(f"{name}.{score}", measured.of_score(result, bins)))
            if plots is not None:
                plots.mkdir(parents=True, exist_ok=True)
                (plots / f"{name}-{score}.svg").write_text(reliability_svg(f"{score}, {name}", bins))
    parts: dict[str, Callable[[LabeledAnswer], bool]] = {
        "written with passages": lambda case: case.with_passages,
        "without those in doubt": lambda case: not case.doubtful,
    }
    cases, values = sets["real"]
    for name, holds in parts.items():
        some = [(case, found) for case, found in zip(cases, values, strict=True) if holds(case)]
        aucs = {score: _auc([(case.right, found.get(score, 0.0)) for case, found in some]) for score in SCORES}
        print(f"  {name} ({len(some)}): " + ", ".join(f"{score} {value:.2f}" for score, value in aucs.items()))
    return tables


def mixes() -> list[str]:
    """Print and return the statistics of a stream of answers, with and without passages."""
    tables = []
    print("\nquality of what one question after another brings")
    for name in MIXES:
        cases = cases_of_prompt(name)
        said = [Judgment(c.ask, v["quality"], c.right) for c, v in zip(cases, scored(cases), strict=True)]
        found = measured.of_mix(said)
        print(
            f"  {name:12} {len(cases)} answers, right {found['right']:.2f}, mean {found['mean']:.3f}, "
            f"deviation {found['deviation']:.3f}"
        )
        tables.append(measured.table(f"mix.{name.replace(' ', '_')}", found))
    return tables


def flags(sets: dict[str, Set]) -> None:
    """Print how often each flag is 1."""
    print("\nshare of answers with it, right and wrong")
    for name, (cases, values) in sets.items():
        for flag in FLAGS:
            right = [one[flag] for case, one in zip(cases, values, strict=True) if case.right]
            wrong = [one[flag] for case, one in zip(cases, values, strict=True) if not case.right]
            print(f"  {name:6}{flag:12}{sum(right) / len(right):5.2f} {sum(wrong) / len(wrong):5.2f}")


def by_edit(cases: Sequence[LabeledAnswer], values: Sequence[dict[str, float]]) -> None:
    """Print the AUC of each score for each edit, against right sentences and against paraphrases."""
    print("\nAUC by edit, against the reference's sentences / against other words")
    print(f"  {'':18}" + "".join(f"{score:>18}" for score in SCORES))
    for kind in dict.fromkeys(case.kind for case in cases if not case.right):
        row = ""
        for score in SCORES:
            of: dict[str, list[float]] = {}
            for case, found in zip(cases, values, strict=True):
                of.setdefault("good" if case.kind in GOOD else case.kind, []).append(found.get(score, 0.0))
            row += f"{auc(of['good'], of[kind]):11.2f} / {auc(of['own words'], of[kind]):4.2f}"
        print(f"  {kind:18}{row}")


def _auc(found: Sequence[tuple[bool, float]]) -> float:
    return auc([score for right, score in found if right], [score for right, score in found if not right])


if __name__ == "__main__":
    main()
