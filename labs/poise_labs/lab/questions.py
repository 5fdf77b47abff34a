"""The questions of the lab: a small corpus of invented facts, with right and wrong answers to each question.

All stations have facts of the same forms, so that the sentences around a right one look like it: the same sentence
about another station, or with another number, is in a neighboring passage.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from poise.contracts.document import Document

ErrorKind = Literal["number", "negation", "name", "invented", "elsewhere"]
"""How an answer is wrong: another number; a negation; another name; an invention; another sentence of the prompt."""

STATIONS: Final = 150
PER_DOCUMENT: Final = 15
_CORPUS_SEED: Final = 7
_FIRST: Final = (
    "Tar",
    "Bel",
    "Hes",
    "Mor",
    "Ul",
    "Kel",
    "Fen",
    "Stav",
    "Ry",
    "Os",
    "Vind",
    "Gal",
    "Nor",
    "Lind",
    "Skar",
)
_LAST: Final = ("vik", "mere", "holm", "stad", "combe", "lund", "wick", "ness", "by", "dal", "mouth", "garth")
_FIRST_NAMES: Final = (
    "Ansel",
    "Berit",
    "Cato",
    "Dagny",
    "Eilif",
    "Frida",
    "Gorm",
    "Hedda",
    "Ivar",
    "Jorun",
    "Kaia",
    "Leif",
)
_FAMILY_NAMES: Final = (
    "Brandt",
    "Corvin",
    "Dahl",
    "Ekholm",
    "Falk",
    "Grenier",
    "Holst",
    "Iversen",
    "Juhl",
    "Krag",
    "Lorentz",
)
_DAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of fact: `{s}` is the station, `{v}` the value."""

    says: str
    tail: str
    """The end of the sentence, which a right answer may omit."""
    denies: str
    value: Callable[[random.Random], str]
    asks: tuple[str, ...]


def _between(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda chance: str(chance.randint(low, high))


def _person(chance: random.Random) -> str:
    return f"{chance.choice(_FIRST_NAMES)} {chance.choice(_FAMILY_NAMES)}"


_FORMS: Final = (
    _Form(
        "The pump at {s} moves {v} litres of water a minute",
        ", as measured at its outlet in summer",
        "The pump at {s} does not move {v} litres of water a minute",
        _between(110, 980),
        (
            "How many litres of water does the pump at {s} move a minute?",
            "How much water does the pump at {s} move?",
            "What does the pump at {s} move a minute?",
            "Does anybody know how much water the pump at {s} moves?",
            "At what rate is water moved by the pump at {s}?",
        ),
    ),
    _Form(
        "The keeper of {s} is {v}",
        ", who lives on the island all the year",
        "The keeper of {s} is not {v}",
        _person,
        (
            "Who is the keeper of {s}?",
            "What is the name of the keeper of {s}?",
            "Who is now the keeper of {s}?",
            "What is the keeper of {s} called?",
            "Who works as the keeper of {s}?",
        ),
    ),
    _Form(
        "The mast of {s} is {v} metres high",
        ", the lamp on its top included",
        "The mast of {s} is not {v} metres high",
        _between(14, 96),
        (
            "How high is the mast of {s}?",
            "How many metres high is the mast of {s}?",
            "What is the height of the mast of {s} in metres?",
            "How tall is the mast of {s}?",
            "The mast of {s} is how high?",
        ),
    ),
    _Form(
        "The batteries of {s} last {v} hours without wind",
        ", provided that the heating is off",
        "The batteries of {s} never last {v} hours without wind",
        _between(6, 72),
        (
            "How many hours do the batteries of {s} last without wind?",
            "How long do the batteries of {s} last?",
            "For how long do the batteries of {s} last without wind?",
            "What time do the batteries of {s} last without wind?",
            "How long can the batteries of {s} last without wind?",
        ),
    ),
    _Form(
        "The supply boat calls at {s} on {v}",
        ", weather permitting",
        "The supply boat does not call at {s} on {v}",
        lambda chance: chance.choice(_DAYS),
        (
            "On which days does the supply boat call at {s}?",
            "When does the supply boat call at {s}?",
            "On what day does the supply boat call at {s}?",
            "On which day of the week does the supply boat call at {s}?",
            "When can the supply boat be met as it calls at {s}?",
        ),
    ),
    _Form(
        "The cellar of {s} holds {v} barrels of oil",
        ", most of them for the lamp",
        "The cellar of {s} does not hold {v} barrels of oil",
        _between(8, 140),
        (
            "How many barrels of oil does the cellar of {s} hold?",
            "How much oil does the cellar of {s} hold?",
            "What does the cellar of {s} hold?",
            "How many barrels does the cellar of {s} hold?",
            "How many barrels of oil are held in the cellar of {s}?",
        ),
    ),
)
_INVENTED: Final = (
    "{s} was rebuilt in stone after a great storm had torn the older house away",
    "Everything at {s} is looked after by a company on the mainland these days",
    "The records of {s} were lost in a fire, so that nobody can tell",
    "It depends on the season, and on how many people stay at {s} overnight",
    "At {s} that is decided again each spring by the council of the fishermen",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """The fact in one sentence of the corpus."""

    station: str
    form: int
    value: str

    @property
    def sentence(self) -> str:
        """The sentence in the corpus."""
        return f"{self.short[:-1]}{_FORMS[self.form].tail}."

    @property
    def short(self) -> str:
        """The sentence without its tail."""
        return f"{_FORMS[self.form].says.format(s=self.station, v=self.value)}."

    @property
    def denied(self) -> str:
        """The negated sentence."""
        form = _FORMS[self.form]
        return f"{form.denies.format(s=self.station, v=self.value)}{form.tail}."


@dataclass(frozen=True, slots=True)
class LabQuestion:
    """A question with a known right answer."""

    text: str
    fact: Fact

    def right(self, answer: str) -> bool:
        """Return whether an answer is right."""
        return answer.strip() in {self.fact.sentence, self.fact.short}


@dataclass(frozen=True, slots=True)
class LabCorpus:
    """The corpus and all questions about it."""

    documents: Mapping[str, Document]
    questions: Sequence[LabQuestion]
    stations: tuple[str, ...]


@cache
def lab_corpus() -> LabCorpus:
    """Return the corpus, which is the same in every run; seeds affect the order of questions and the answers."""
    chance = random.Random(_CORPUS_SEED)  # noqa: S311 - not for security
    names = [first + last for first in _FIRST for last in _LAST]
    chance.shuffle(names)
    stations = tuple(names[:STATIONS])
    facts = {
        station: [Fact(station, number, form.value(chance)) for number, form in enumerate(_FORMS)]
        for station in stations
    }
    documents = {}
    for start in range(0, STATIONS, PER_DOCUMENT):
        some = stations[start : start + PER_DOCUMENT]
        text = "\n\n".join(f"## {station}\n\n{' '.join(fact.sentence for fact in facts[station])}" for station in some)
        number = start // PER_DOCUMENT + 1
        documents[f"pilot-{number}"] = Document(text=text, source=f"The pilot, part {number}", format="markdown")
    questions = tuple(
        LabQuestion(asked.format(s=station), fact)
        for station in stations
        for fact in facts[station]
        for asked in _FORMS[fact.form].asks
    )
    return LabCorpus(documents, questions, stations)


def sample_questions(number: int, seed: int) -> list[LabQuestion]:
    """Return `number` different questions in random order.

    Raises:
        ValueError: There are fewer questions.
    """
    every = lab_corpus().questions
    if number > len(every):
        raise ValueError(f"there are only {len(every)} different questions, not {number}")
    return random.Random(f"questions {seed}").sample(every, number)  # noqa: S311 - not for security


def wrong_answer(question: LabQuestion, kind: ErrorKind, prompt: Sequence[str], chance: random.Random) -> str:
    """Return a wrong answer of a kind; of another kind if that one is not possible.

    Args:
        question: The question.
        kind: The kind of error.
        prompt: The sentences of the prompt.
        chance: Chooses among the possible answers.
    """
    fact, form = question.fact, _FORMS[question.fact.form]
    if kind == "elsewhere":
        others = [line for line in prompt if not question.right(line)]
        return chance.choice(others) if others else wrong_answer(question, "name", prompt, chance)
    if kind == "invented":
        return f"{chance.choice(_INVENTED).format(s=fact.station)}."
    if kind == "negation":
        return fact.denied
    if kind == "name":
        station = chance.choice([one for one in lab_corpus().stations if one != fact.station])
        return Fact(station, fact.form, fact.value).sentence
    while (value := form.value(chance)) == fact.value:
        pass
    return Fact(fact.station, fact.form, value).sentence
