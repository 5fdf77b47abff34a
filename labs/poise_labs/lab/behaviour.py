"""Behaviour: what a scripted model says to each question, by luck that is decided beforehand. Pure.

A model's luck with a question is one number between 0 and 1, made of the seed, its name and the question: below its
share of wrong answers it is wrong. So one and the same question is answered wrongly *because of the trouble* where the
luck lies between the usual share and that of the trouble; what would have been wrong anyway is told apart exactly.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poise_labs.lab.questions import ErrorKind, LabQuestion, wrong_answer
from poise_labs.lab.scenario import Behaviour

ERROR_KINDS: Final[tuple[ErrorKind, ...]] = ("number", "negation", "name", "invented", "elsewhere")
CUT_SHORT: Final = 0.2
"""The share of right answers that leave the sentence's tail out."""


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """What a variant says to one question."""

    text: str
    right: bool
    how: ErrorKind | None
    """How it is wrong; None = it is right, or the prompt did not have the sentence."""
    seconds: float
    """How long it takes."""
    troubled: bool
    """It is wrong, or slow, because of the trouble: without, it would not have been."""


def uniform(seed: int, variant: str, question: str, about: str) -> float:
    """A number between 0 and 1, always the same for the same."""
    digest = hashlib.sha256(f"{seed}\x00{variant}\x00{about}\x00{question}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def scripted_answer(
    question: LabQuestion, prompt: Sequence[str], *, variant: str, seed: int, usual: Behaviour, now: Behaviour
) -> ScriptedAnswer:
    """What a variant says, and what is true of it.

    Args:
        question: The question.
        prompt: The sentences of the prompt.
        variant: The variant's name.
        seed: Of the run.
        usual: How it behaves without trouble.
        now: How it behaves.
    """
    chance = random.Random(f"{seed} {variant} {question.text}")  # noqa: S311 - chooses words
    seconds = now.seconds * chance.lognormvariate(0.0, now.spread)
    slow = uniform(seed, variant, question.text, "slow")
    was_slow = slow < usual.slow
    is_slow = slow < now.slow
    if is_slow:
        seconds += now.slow_by
    mark = uniform(seed, variant, question.text, "wrong")
    how = chance.choice(ERROR_KINDS)
    troubled = usual.wrong <= mark < now.wrong or (is_slow and not was_slow)
    if mark < now.wrong:
        return ScriptedAnswer(wrong_answer(question, how, prompt, chance), False, how, seconds, troubled)
    fact = question.fact
    if fact.sentence not in prompt:  # retrieval missed it: a model that sticks to its text can only say what it has
        text = prompt[0] if prompt else "The text does not say."
        return ScriptedAnswer(text, question.right(text), None, seconds, troubled)
    text = fact.short if chance.random() < CUT_SHORT else fact.sentence
    return ScriptedAnswer(text, True, None, seconds, troubled)
