"""Edits: good and bad answers made from right ones, by stated, seeded edits.

`right.toml` has sentences of the language reference that answer a question, and the same fact in other words. Good
are the sentence, the sentence lightly reworded, and those own words. Bad is each of `BAD`.
"""

import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.benchmarks.scores.labelled import Case

SEED: Final = 6
RIGHT: Final = Path(__file__).with_name("right.toml")
GOOD: Final = ("the sentence", "lightly reworded")
"""What edits are compared with; own words are told apart."""
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
    """All of them."""
    return [Right(**entry) for entry in tomllib.loads(RIGHT.read_text())["answer"]]


def lightly_reworded(sentence: str) -> str:
    """Up to all of the words of `ALIKE` replaced, and "In Python," before it."""
    for said, other in ALIKE:
        sentence = re.sub(rf"\b{said}\b", other, sentence, flags=re.IGNORECASE)
    return f"In Python, {sentence[0].lower()}{sentence[1:]}"


def another_answer(all_of_them: list[Right], at: int, _dice: random.Random) -> Case:
    """The right answer to another question."""
    return _bad(all_of_them[at], all_of_them[(at + 23) % len(all_of_them)].says, "another's answer")


def changed_number(all_of_them: list[Right], at: int, dice: random.Random) -> Case:
    """Its first number is another one; if it has none, one is added."""
    says, other = all_of_them[at].says, str(dice.randrange(11, 99))
    changed = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", other, says, count=1)
    return _bad(all_of_them[at], changed if changed != says else f"{_bare(says)}, {other} times.", "changed number")


def negated(all_of_them: list[Right], at: int, _dice: random.Random) -> Case:
    """It denies what the reference affirms, or the other way about."""
    says = all_of_them[at].says
    if DENIES.search(says):
        return _bad(all_of_them[at], DENIES.sub("", says, count=1), "negated")
    changed = NEGATES.sub(r"\1 not", says, count=1)
    return _bad(all_of_them[at], changed if changed != says else f"It is not so that {says}", "negated")


def invented_name(all_of_them: list[Right], at: int, dice: random.Random) -> Case:
    """Its longest word but the first is a name that nobody has heard of."""
    said = all_of_them[at].says.split()
    longest = max(range(1, len(said)), key=lambda place: len(said[place]))
    return _bad(all_of_them[at], " ".join([*said[:longest], dice.choice(NAMES), *said[longest + 1 :]]), "invented name")


def truncated(all_of_them: list[Right], at: int, _dice: random.Random) -> Case:
    """Its first half; the model says that it was cut off."""
    said = all_of_them[at].says.split()
    return _bad(all_of_them[at], " ".join(said[: max(2, len(said) // 2)]).rstrip("."), "truncated", "length")


def looping(all_of_them: list[Right], at: int, _dice: random.Random) -> Case:
    """Its first six words, again and again."""
    return _bad(all_of_them[at], " ".join(all_of_them[at].says.split()[:6] * 8), "looping", "length")


def empty(all_of_them: list[Right], at: int, _dice: random.Random) -> Case:
    """Nothing."""
    return _bad(all_of_them[at], "", "empty")


def refusal(all_of_them: list[Right], at: int, dice: random.Random) -> Case:
    """It declines, though the passages tell."""
    ways = ("I'm sorry, I cannot answer that.", "The text does not mention this.", "As an AI, I do not know.")
    return _bad(all_of_them[at], dice.choice(ways), "refusal")


BAD: Final[tuple[Callable[[list[Right], int, random.Random], Case], ...]] = (
    another_answer,
    changed_number,
    negated,
    invented_name,
    truncated,
    looping,
    empty,
    refusal,
)


def _bad(of: Right, text: str, kind: str, finish: str = "stop") -> Case:
    return Case(of.ask, text, right=False, kind=kind, finish=finish)


def _bare(sentence: str) -> str:
    return sentence.rstrip(".:")


def edited() -> list[Case]:
    """All good and bad answers, the same ones each time."""
    dice, them, cases = random.Random(SEED), right(), list[Case]()
    for at, one in enumerate(them):
        cases.append(Case(one.ask, one.says, right=True, kind="the sentence"))
        cases.append(Case(one.ask, lightly_reworded(one.says), right=True, kind="lightly reworded"))
        cases.append(Case(one.ask, one.reworded, right=True, kind="own words"))
        cases += [edit(them, at, dice) for edit in BAD]
    return cases


def edited_own_words() -> list[Case]:
    """Right answers in other words, made wrong; nothing is fitted on them. Of a single word, none is made."""
    dice, them = random.Random(SEED), [replace(one, says=one.reworded) for one in right()]
    edits = (another_answer, changed_number, negated, invented_name)
    return [edit(them, at, dice) for at, one in enumerate(them) if " " in one.says for edit in edits]
