"""The text that a commit carries: the topic's id, then the finished offsets above the committed one."""

import re
from typing import Final

from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from poise.kafka.offset_tracker import Commit

GroupChangedErrors = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Errors of a commit that is refused for good: the group is no longer the one in which it was made."""
_WITH_TOPIC_ID: Final = re.compile(r"([0-9a-f-]{36}):(.*)")


def encode_commit(commit: Commit) -> str:
    """Return the metadata to commit with an offset."""
    return f"{commit.topic_id}:{commit.finished}" if commit.topic_id else commit.finished


def decode_commit(offset: int, text: str) -> Commit:
    """Return the commit that an offset and its metadata describe."""
    found = _WITH_TOPIC_ID.fullmatch(text)
    return Commit(offset, found[2], found[1]) if found else Commit(offset, text)
