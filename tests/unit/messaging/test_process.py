"""A process's log: what a library repeats is written once in a while, and counted."""

import gc
import logging

from poise.messaging.process import Sparing, settled


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, arguments, None)


def test_what_a_library_repeats_is_left_out_and_counted() -> None:
    now = 0.0
    sparing = Sparing("aiokafka", every=5.0, clock=lambda: now)
    passed = [sparing.filter(record("aiokafka.conn", "no answer from %s", node)) for node in range(10)]
    assert passed == [True] + [False] * 9
    assert sparing.filter(record("aiokafka.conn", "something else"))
    now = 5.0
    again = record("aiokafka.conn", "no answer from %s", 1)
    assert sparing.filter(again)
    assert again.getMessage() == "no answer from 1 (9 like it left out)"


def test_what_is_ours_is_always_written() -> None:
    sparing = Sparing("aiokafka", every=5.0)
    assert all(sparing.filter(record("poise.messaging", "the same")) for _ in range(3))


def test_what_is_set_up_is_left_alone_by_the_collector_while_the_process_works() -> None:
    with settled():
        assert gc.get_freeze_count() > 1_000
    assert gc.get_freeze_count() == 0
