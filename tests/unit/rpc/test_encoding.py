"""A value that JSON cannot represent causes an error that names its field, and nothing else."""

import decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, computed_field, field_serializer, model_serializer

from poise.contracts import Answer, Envelope, Fault, FieldError, Message
from poise.errors import EncodingError, InvalidMessageError, PoiseError, RetryableError, TerminalError
from poise.rpc.encoding import EncodedMessage, encode, encode_headers, encode_value


class Inner(Message):
    kind: ClassVar[str] = "inner/1"

    value: Any = None


class Reply(Message):
    kind: ClassVar[str] = "reply/1"

    text: str = ""
    number: float = 0.0
    value: Any = None
    inner: Inner = Inner()
    by_name: dict[str, Any] = Field(default_factory=dict)
    many: tuple[Any, ...] = ()


class Raises(Message):
    kind: ClassVar[str] = "raises/1"

    fine: int = 1
    broken: int = 1

    @field_serializer("broken")
    def _write(self, _: int) -> int:
        raise ZeroDivisionError("division by zero")


class Computes(Message):
    kind: ClassVar[str] = "computes/1"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def derived(self) -> int:
        raise KeyError("nothing")


class AllOrNothing(Message):
    kind: ClassVar[str] = "all-or-nothing/1"

    fine: int = 1

    @model_serializer
    def _write(self) -> dict[str, Any]:
        raise RecursionError("too deep")


class Opaque:
    """An object without a JSON form, such as a client, a file or a lock."""


def deep() -> Any:
    value: Any = []
    for _ in range(2_000):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Reply(text="\ud800"), "text"),
        (Reply(value=Opaque()), "value"),
        (Reply(value=b"\xff"), "value"),
        (Reply(value=lambda: None), "value"),
        (Reply(inner=Inner(value=Opaque())), "inner.value"),
        (Reply(by_name={"a": 1, "b": {"c": Opaque()}}), "by_name.b.c"),
        (Reply(many=(1, "x", [Opaque()])), "many.2.0"),
        (Reply(number=float("nan")), "number"),
        (Reply(value=[1.0, float("-inf")]), "value.1"),
        (Reply(inner=Inner(value=float("inf")), text="null"), "inner.value"),
        (Raises(), "broken"),
        (Computes(), "derived"),
        (AllOrNothing(), "body"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.kind,
)
def test_encoding_error_names_the_field(message: Message, field: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode(message)
    assert [error.field for error in caught.value.errors] == [field]
    assert str(caught.value).startswith(f"{message.kind} cannot be encoded: {field}: ")
    fault = Fault.parse(caught.value.fault().encode())
    assert (fault.status, fault.retryable) == (500, False)
    assert fault.errors == caught.value.errors


@pytest.mark.parametrize("value", [circle(), deep()], ids=["a circle", "nested too deep"])
def test_encoding_error_of_a_recursive_value_names_its_first_items(value: Any) -> None:
    with pytest.raises(EncodingError, match=r"reply/1 cannot be encoded: value\.0"):
        encode(Reply(value=value))


def test_json_values_are_encoded() -> None:
    reply = Reply(text="null", value=[None, 10**30, decimal.Decimal("1.5")], by_name={"a": None})
    assert EncodedMessage.of(reply) == EncodedMessage(reply, reply.encode())


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.binary(max_size=4),
        st.text(st.characters(categories=["L", "Cs", "Cc"]), max_size=4),
        st.builds(Opaque),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(anything, st.text(st.characters(categories=["L", "Cs"]), max_size=3), st.floats())
def test_any_reply_is_encoded_to_readable_bytes_or_raises_an_encoding_error(
    value: Any, text: str, number: float
) -> None:
    try:
        body = encode(Reply(value=value, inner=Inner(value=value), text=text, number=number))
    except EncodingError as error:
        named = error.errors[0].field
    else:
        assert Reply.parse(body).number == number
        return
    assert named.split(".")[0] in Reply.model_fields


@given(st.text(st.characters(categories=["L", "Cs", "Zs"])), st.floats())
def test_any_fault_can_be_encoded(text: str, seconds: float) -> None:
    errors: tuple[PoiseError, ...] = (
        TerminalError(text),
        RetryableError(text, retry_after=seconds),
        InvalidMessageError(text, [FieldError(field=text, detail=text)]),
        EncodingError.of(text, text, text),
    )
    for error in errors:
        Fault.parse(EncodedMessage.of(error.fault()).body)


def test_headers_and_step_results_raise_the_same_encoding_error() -> None:
    with pytest.raises(EncodingError, match="answer/1 cannot be encoded: poise-step: cannot be encoded as UTF-8"):
        encode_headers(Envelope(kind=Answer.kind, step="\udfff"))
    with pytest.raises(EncodingError, match=r"the result of step pay cannot be encoded: 1: "):
        encode_value("the result of step pay", [1, Opaque()], TypeAdapter(Any))
