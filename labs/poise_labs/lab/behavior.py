"""Behavior: the answer of a scripted model to each question, from predetermined draws. Pure.

A model's draw for a question is a number between 0 and 1, derived from the seed, its name and the question. The answer
is wrong if the draw is below the share of wrong answers. It is wrong *because of the degradation* if the draw lies
between the usual share and the degraded share, so answers that would have been wrong anyway are distinguished exactly.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poise_labs.lab.questions import ErrorKind, LabQuestion, wrong_answer
from poise_labs.lab.scenario import Behavior

ERROR_KINDS: Final[tuple[ErrorKind, ...]] = ("number", "negation", "name", "invented", "elsewhere")
SHORT_SHARE: Final = 0.2
"""The share of right answers that omit the sentence's tail."""


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """A variant's answer to one question."""

    text: str
    right: bool
    error_kind: ErrorKind | None
    """How it is wrong; None = it is right, or the prompt did not contain the sentence."""
    seconds: float
    """The time that it takes."""
    harmed: bool
    """Whether it is wrong or slow because of the degradation."""


def seeded_uniform(seed: int, variant: str, question: str, about: str) -> float:
    """Return a number between 0 and 1, determined by the arguments."""
    digest = hashlib.sha256(f"{seed}\x00{variant}\x00{about}\x00{question}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def scripted_answer(
    question: LabQuestion, prompt: Sequence[str], *, variant: str, seed: int, usual: Behavior, now: Behavior
) -> ScriptedAnswer:
    """Return a variant's answer with its ground truth.

    Args:
        question: The question.
        prompt: The sentences of the prompt.
        variant: The variant's name.
        seed: The seed of the run.
        usual: The behavior without degradation.
        now: The current behavior.
    """
    chance = random.Random(f"{seed} {variant} {question.text}")  # noqa: S311 - not for security
    seconds = now.seconds * chance.lognormvariate(0.0, now.spread)
    slow = seeded_uniform(seed, variant, question.text, "slow")
    was_slow = slow < usual.slow
    is_slow = slow < now.slow
    if is_slow:
        seconds += now.slow_by
    draw = seeded_uniform(seed, variant, question.text, "wrong")
    error_kind = chance.choice(ERROR_KINDS)
    harmed = usual.wrong <= draw < now.wrong or (is_slow and not was_slow)
    if draw < now.wrong:
        return ScriptedAnswer(wrong_answer(question, error_kind, prompt, chance), False, error_kind, seconds, harmed)
    fact = question.fact
    if fact.sentence not in prompt:  # retrieval missed it: a faithful model can only use its passages
        text = prompt[0] if prompt else "The text does not say."
        return ScriptedAnswer(text, question.right(text), None, seconds, harmed)
    text = fact.short if chance.random() < SHORT_SHARE else fact.sentence
    return ScriptedAnswer(text, True, None, seconds, harmed)
