"""The base of every body on the wire, and how one is read: strict at the edge, tolerant between tiers."""

import codecs
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.config import ExtraValues

from poise.contracts.json_bounds import check_value_count


def strip_bom(body: bytes | str) -> bytes | str:
    """A body without the byte order mark that editors and libraries on Windows put before UTF-8 (RFC 8259, §8.1)."""
    if isinstance(body, bytes):
        return body.removeprefix(codecs.BOM_UTF8)
    return body.removeprefix("\ufeff")


class Message(BaseModel):
    """A body on the wire: plain JSON, immutable, named by its kind (`name/version`, the header `poise-kind`).

    Unknown fields are ignored between tiers, so that a newer worker may say more; at the edge, `parse(strict=True)`
    refuses them, and whatever else the JSON Schema of the body refuses.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    kind: ClassVar[str]

    @classmethod
    def parse(cls, body: bytes | str, *, strict: bool = False) -> Self:
        """Read a body from JSON.

        Args:
            body: UTF-8 JSON, with a byte order mark or without.
            strict: Refuse unknown fields, and values of another type though they could be converted, such as "5" for a
                number (HTTP and the topics that anyone may write).

        Raises:
            pydantic.ValidationError: The body is not JSON, is not of this form, or has too many values.
        """
        check_value_count(body, cls.__name__)
        extra: ExtraValues = "forbid" if strict else "ignore"
        return cls.model_validate_json(strip_bom(body), strict=strict or None, extra=extra)

    def encode(self) -> bytes:
        """The body as UTF-8 JSON, without the fields that are absent."""
        return self.model_dump_json(exclude_none=True).encode()


ReplyT = TypeVar("ReplyT", bound=Message)


class Request(Message, Generic[ReplyT]):
    """A message that is answered by one `ReplyT` or by a fault."""

    reply: ClassVar[type[Any]]
    tier: ClassVar[str]
    """The tier of one's own that answers it; for requests of Poise's own tiers the table of topics says it."""
