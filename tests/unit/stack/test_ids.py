"""Ids that Kafka's tools accept."""

import re

from poise.stack.kafka_runtime import _new_id


def test_new_ids_never_start_with_a_dash() -> None:
    ids = {_new_id() for _ in range(2_000)}  # one in 64 would begin with a dash
    assert len(ids) == 2_000
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", new) for new in ids)
