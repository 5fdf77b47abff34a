"""How well groundedness separates good answers from bad ones, made from the language reference by defined edits."""

import random
import re
from collections.abc import Callable, Iterator
from pydoc_data.topics import topics

import pytest

from poise.contracts import Passage
from poise.scoring import Evidence, groundedness
from poise.scoring.tokenization import sentences

SEED = 7
NAMES = ("Frobnicator", "Zaphod", "QuuxError", "Blorptown")


def corpus() -> Iterator[tuple[str, Passage]]:
    """Yield one plain sentence, and the passage that contains it, of each topic that has one."""
    for name, whole in sorted(topics.items()):
        passage = Passage(id=f"{name}#0", source=name, text=whole[:2_000], score=1.0, age=0.0)
        plain = [s for s in sentences(passage.text) if 8 <= len(s.split()) <= 30 and re.match(r"[A-Z].*\.$", s)]
        if plain:
            yield plain[len(plain) // 2], passage


CASES = list(corpus())
RIGHT = [groundedness(sentence, Evidence([passage])).score for sentence, passage in CASES]


def auc(good: list[float], bad: list[float]) -> float:
    """Return the probability that a good answer scores above a bad one (Mann and Whitney, 1947); ties count as half."""
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def another_passages(sentence: str, at: int, _dice: random.Random) -> str:
    """Return the right answer to another question."""
    del sentence
    return CASES[(at + 11) % len(CASES)][0]


def invented_name(sentence: str, _at: int, dice: random.Random) -> str:
    """Replace one content word by an invented name."""
    words = sentence.split()
    longest = max(range(1, len(words)), key=lambda i: len(words[i]))
    return " ".join([*words[:longest], dice.choice(NAMES), *words[longest + 1 :]])


def added_number(sentence: str, _at: int, dice: random.Random) -> str:
    """Add a number that the passage does not contain."""
    return sentence.removesuffix(".") + f" in {dice.randrange(1_000, 9_999)} steps."


def half_invented(sentence: str, _at: int, dice: random.Random) -> str:
    """Replace half of the words by others of the corpus."""
    others = dice.choice(CASES)[0].split()
    words = sentence.split()
    return " ".join([*words[: len(words) // 2], *others[len(others) // 2 :]])


def put_together_anew(sentence: str, _at: int, dice: random.Random) -> str:
    """Shuffle the words of the sentence, as a small model may do with a passage."""
    words = sentence.removesuffix(".").split()
    dice.shuffle(words)
    return " ".join(words) + "."


def denied(sentence: str, _at: int, _dice: random.Random) -> str:
    """Negate the sentence."""
    return f"It is not the case that {sentence[0].lower()}{sentence[1:]}"


@pytest.mark.parametrize(
    ("edit", "at_least"),
    [
        (another_passages, 0.99),
        (invented_name, 0.97),
        (added_number, 0.97),
        (half_invented, 0.95),
        (put_together_anew, 0.97),
        (denied, 0.95),
    ],
)
def test_edited_answers_score_below_right_answers(
    edit: Callable[[str, int, random.Random], str], at_least: float
) -> None:
    dice = random.Random(SEED)
    bad = [
        groundedness(edit(sentence, at, dice), Evidence([passage])).score
        for at, (sentence, passage) in enumerate(CASES)
    ]
    assert auc(RIGHT, bad) >= at_least, f"AUC {auc(RIGHT, bad):.3f}"


def test_sentence_of_a_passage_is_grounded_and_cited() -> None:
    assert len(CASES) > 50
    assert sorted(RIGHT)[len(RIGHT) // 20] > 0.9
    for sentence, passage in CASES[:20]:
        found = groundedness(sentence, Evidence([passage]))
        assert [citation.passage for citation in found.citations] == [passage.id]
        assert found.unknown == ()


def test_one_invented_sentence_lowers_the_groundedness_of_the_answer() -> None:
    sentence, passage = CASES[0]
    evidence = Evidence([passage])
    assert (
        groundedness(f"{sentence} Zaphod eats 77 bananas.", evidence).score
        < 0.5
        < groundedness(sentence, evidence).score
    )


LAMP = Passage(
    id="lamp#0",
    source="lamps",
    heading="Harrow Point",
    text="The lamp was lit in 1847 by the keeper Ada Quill. It burns whale oil. In 1902 it was moved to the pier.",
    score=1.0,
    age=0.0,
)


def test_number_must_be_in_the_cited_part_of_the_passage() -> None:
    found = groundedness("The lamp was lit in 1902 by the keeper Ada Quill.", Evidence([LAMP]))
    assert found.unknown == ("1902",), "that year is in the passage, but of something else"
    assert found.score < 0.5


def test_name_may_be_anywhere_in_the_passages_or_their_titles() -> None:
    assert groundedness("The lamp of Harrow Point was lit by the keeper Ada Quill.", Evidence([LAMP])).unknown == ()


def test_echo_of_the_question_is_not_grounded() -> None:
    evidence, echo = Evidence([LAMP]), "The lamp was lit by the keeper."
    assert groundedness(echo, evidence).score > 0.7
    assert groundedness(echo, evidence, question="Was the lamp lit by the keeper?").score < 0.4


@pytest.mark.parametrize("answer", ["", "  ", "\n\n"])
def test_an_empty_answer_is_not_grounded(answer: str) -> None:
    assert groundedness(answer, Evidence([CASES[0][1]])).score == 0


def test_groundedness_without_passages_is_zero() -> None:
    assert groundedness("Anything at all.", Evidence([])).score == 0
