"""The base class of every body on the wire. Parsing is strict for public topics and HTTP, tolerant between tiers."""

import codecs
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo
from pydantic.config import ExtraValues

from poise.contracts.json_bounds import check_value_count

_STRICT: Final = {"strict": True}
"""The context of strict validation, for validators that depend on it."""


def strip_bom(body: bytes | str) -> bytes | str:
    """Return a body without the byte order mark that Windows programs put before UTF-8 (RFC 8259, §8.1)."""
    if isinstance(body, bytes):
        return body.removeprefix(codecs.BOM_UTF8)
    return body.removeprefix("\ufeff")


def is_strict(info: ValidationInfo) -> bool:
    """Return whether a validator runs for `Message.parse(strict=True)`."""
    return info.context is _STRICT


class Message(BaseModel):
    """A body on the wire: plain JSON, immutable, named by its kind (`name/version`, the header `poise-kind`).

    Unknown fields are ignored between tiers, so that a newer worker may add some. For public input,
    `parse(strict=True)` refuses them, and anything else that the JSON Schema of the body does not allow.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    kind: ClassVar[str]

    @classmethod
    def parse(cls, body: bytes | str, *, strict: bool = False) -> Self:
        """Parse a body from JSON.

        Args:
            body: UTF-8 JSON, with or without a byte order mark.
            strict: Refuse unknown fields, and values of another type even if they could be converted, such as "5" for a
                number (HTTP and public topics).

        Raises:
            pydantic.ValidationError: The body is not JSON, does not match the model, or has too many values.
        """
        check_value_count(body, cls.__name__)
        extra: ExtraValues = "forbid" if strict else "ignore"
        context = _STRICT if strict else None
        return cls.model_validate_json(strip_bom(body), strict=strict or None, extra=extra, context=context)

    def encode(self) -> bytes:
        """Return the body as UTF-8 JSON, without absent fields."""
        return self.model_dump_json(exclude_none=True).encode()


ReplyT = TypeVar("ReplyT", bound=Message)


class Request(Message, Generic[ReplyT]):
    """A message whose reply is one `ReplyT` or a fault."""

    reply: ClassVar[type[Any]]
    tier: ClassVar[str]
    """The custom tier that answers it; for built-in tiers, the table of topics determines it."""
