"""The deciders of a partition: what operators are told, and when."""

import logging

import pytest
from policy_kit import POLICY, asked, score_of, spec

from poise.contracts.message import Message
from poise.contracts.topics import COMMANDS, SCORES
from poise.messaging import Record
from services.evaluation.deciders import Deciders


def record(topic: str, offset: int, message: Message) -> Record:
    return Record(topic, 0, offset, float(offset), POLICY.encode(), message.encode())


def with_answers(deciders: Deciders, count: int) -> None:
    """Answers of two variants, those of `cheap` all bad."""
    for offset in range(count):
        variant = ("steady", "cheap")[offset % 2]
        score = score_of(f"run-{offset}", variant, good=variant == "steady", at=float(offset))
        deciders.take_scores([record(SCORES.name, offset, score)])


@pytest.mark.parametrize("how", ["held", "dry run", "acted"])
def test_trouble_is_a_warning_whether_or_not_it_is_acted_on(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deciders = Deciders(0, lambda _: True)
    commands = [asked("set", 1, spec=spec(dry_run=how == "dry run"))]
    if how == "held":
        commands.append(asked("hold", 2))
    deciders.take_commands([record(COMMANDS.name, number, command) for number, command in enumerate(commands)])
    with_answers(deciders, 400)
    assert "cheap answers worse" not in caplog.text  # nothing was decided before it is written
    deciders.written()
    (told,) = [one for one in caplog.records if "cheap answers worse" in one.getMessage()]
    assert told.levelno == logging.WARNING
    assert ("(not acted)" in told.getMessage()) == (how != "acted")


def test_what_a_person_writes_stays_on_its_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deciders = Deciders(0, lambda _: True)
    by = "jane\x1b[2J\nanswer roll back: all is lost"
    command = asked("set", 1, spec=spec(), reason="so\r\nit is\u202e").model_copy(update={"by": by})
    deciders.take_commands([record(COMMANDS.name, 0, command)])
    deciders.written()
    (told,) = [one.getMessage() for one in caplog.records]
    assert told.isprintable()
    assert told.endswith(": so it is")
