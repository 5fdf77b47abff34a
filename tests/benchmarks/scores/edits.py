"""Good and bad answers made from right ones by seeded edits.

`right.toml` has sentences of the language reference that answer a question, and the same fact in other words. Good
answers are the sentence, the same lightly reworded, and the other words. Bad answers result from the edits in `BAD`.
"""

import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.benchmarks.scores.labeled import LabeledAnswer

SEED: Final = 6
RIGHT: Final = Path(__file__).with_name("right.toml")
GOOD: Final = ("the sentence", "lightly reworded")
"""The kinds that edits are compared with; paraphrases are reported separately."""
NAMES: Final = ("Frobnicator", "ZaphodError", "quux_table", "Blorptown")
ALIKE: Final = (
    ("is executed", "runs"),
    ("is evaluated", "is worked out"),
    ("are evaluated", "are worked out"),
    ("is raised", "gets raised"),
    ("will be raised", "gets raised"),
    ("yields", "gives"),
    ("return a copy", "gives a copy"),
    ("refer to", "mean"),
    ("used to", "there to"),
    ("used for", "there for"),
    ("cannot contain", "can't have"),
    ("should return", "ought to return"),
    ("terminates", "ends"),
    ("leaves", "quits"),
    ("called when", "invoked when"),
    ("called by", "invoked by"),
    ("represents", "stands for"),
    ("keeps", "retains"),
    ("continues with", "goes on with"),
    ("supports no", "has no"),
    ("there is", "there exists"),
)
NEGATES: Final = re.compile(r"\b(is|are|can|will|should|must|does|may)\b(?! not)")
DENIES: Final = re.compile(r"\b(cannot|not|no)\b ?")


@dataclass(frozen=True, slots=True)
class Right:
    """A right answer."""

    ask: str
    says: str
    reworded: str


def right() -> list[Right]:
    """Return all right answers."""
    return [Right(**entry) for entry in tomllib.loads(RIGHT.read_text())["answer"]]


def lightly_reworded(sentence: str) -> str:
    """Return the sentence with the words of `ALIKE` replaced, after "In Python,"."""
    for said, other in ALIKE:
        sentence = re.sub(rf"\b{said}\b", other, sentence, flags=re.IGNORECASE)
    return f"In Python, {sentence[0].lower()}{sentence[1:]}"


def another_answer(all_of_them: list[Right], at: int, _dice: random.Random) -> LabeledAnswer:
    """Return the right answer to another question."""
    return _bad(all_of_them[at], all_of_them[(at + 23) % len(all_of_them)].says, "another's answer")


def changed_number(all_of_them: list[Right], at: int, dice: random.Random) -> LabeledAnswer:
    """Return the answer with its first number changed, or one added if it has none."""
    says, other = all_of_them[at].says, str(dice.randrange(11, 99))
    changed = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", other, says, count=1)
    return _bad(all_of_them[at], changed if changed != says else f"{_bare(says)}, {other} times.", "changed number")


def negated(all_of_them: list[Right], at: int, _dice: random.Random) -> LabeledAnswer:
    """Return the answer with its statement negated."""
    says = all_of_them[at].says
    if DENIES.search(says):
        return _bad(all_of_them[at], DENIES.sub("", says, count=1), "negated")
    changed = NEGATES.sub(r"\1 not", says, count=1)
    return _bad(all_of_them[at], changed if changed != says else f"It is not so that {says}", "negated")


def invented_name(all_of_them: list[Right], at: int, dice: random.Random) -> LabeledAnswer:
    """Return the answer with its longest word, except for the first, replaced by an invented name."""
    said = all_of_them[at].says.split()
    longest = max(range(1, len(said)), key=lambda place: len(said[place]))
    return _bad(all_of_them[at], " ".join([*said[:longest], dice.choice(NAMES), *said[longest + 1 :]]), "invented name")


def truncated(all_of_them: list[Right], at: int, _dice: random.Random) -> LabeledAnswer:
    """Return the first half of the answer, with the finish reason of a truncation."""
    said = all_of_them[at].says.split()
    return _bad(all_of_them[at], " ".join(said[: max(2, len(said) // 2)]).rstrip("."), "truncated", "length")


def looping(all_of_them: list[Right], at: int, _dice: random.Random) -> LabeledAnswer:
    """Return the first six words of the answer, repeated."""
    return _bad(all_of_them[at], " ".join(all_of_them[at].says.split()[:6] * 8), "looping", "length")


def empty(all_of_them: list[Right], at: int, _dice: random.Random) -> LabeledAnswer:
    """Return an empty answer."""
    return _bad(all_of_them[at], "", "empty")


def refusal(all_of_them: list[Right], at: int, dice: random.Random) -> LabeledAnswer:
    """Return a refusal, although the passages have the answer."""
    ways = ("I'm sorry, I cannot answer that.", "The text does not mention this.", "As an AI, I do not know.")
    return _bad(all_of_them[at], dice.choice(ways), "refusal")


BAD: Final[tuple[Callable[[list[Right], int, random.Random], LabeledAnswer], ...]] = (
    another_answer,
    changed_number,
    negated,
    invented_name,
    truncated,
    looping,
    empty,
    refusal,
)


def _bad(of: Right, text: str, kind: str, finish: str = "stop") -> LabeledAnswer:
    return LabeledAnswer(of.ask, text, right=False, kind=kind, finish=finish)


def _bare(sentence: str) -> str:
    return sentence.rstrip(".:")


def edited() -> list[LabeledAnswer]:
    """Return all good and bad answers, the same each time."""
    dice, them, cases = random.Random(SEED), right(), list[LabeledAnswer]()
    for at, one in enumerate(them):
        cases.append(LabeledAnswer(one.ask, one.says, right=True, kind="the sentence"))
        cases.append(LabeledAnswer(one.ask, lightly_reworded(one.says), right=True, kind="lightly reworded"))
        cases.append(LabeledAnswer(one.ask, one.reworded, right=True, kind="own words"))
        cases += [edit(them, at, dice) for edit in BAD]
    return cases


def edited_own_words() -> list[LabeledAnswer]:
    """Return edited paraphrases of right answers, except for single words. Nothing is fitted on them."""
    dice, them = random.Random(SEED), [replace(one, says=one.reworded) for one in right()]
    edits = (another_answer, changed_number, negated, invented_name)
    return [edit(them, at, dice) for at, one in enumerate(them) if " " in one.says for edit in edits]
