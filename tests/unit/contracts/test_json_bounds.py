"""Documents with too many values are refused before they are parsed; the content of strings does not count."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from poise.contracts import Document, json_bounds
from poise.contracts.json_bounds import MAX_VALUES, check_value_count

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (b"[" + b"1," * (MAX_VALUES - 2) + b"1]", MAX_VALUES),
        (b"[" + b"[]," * (MAX_VALUES // 2 - 1) + b"1]", MAX_VALUES),
        (json.dumps({"text": ',[{"\\' * MAX_VALUES, "more": "," * MAX_VALUES}), 3),
    ],
)
def test_document_within_the_value_limit_is_accepted(document: bytes | str, values: int) -> None:
    check_value_count(document, "it")
    assert values <= MAX_VALUES


@pytest.mark.parametrize(
    "document",
    [
        b"1," * (MAX_VALUES + 1),
        b"[]," * MAX_VALUES,
        b'{"a": 1}, ' * MAX_VALUES,
        b'{"text": "' + b"," * MAX_VALUES + b'", "more": [' + b"{}," * MAX_VALUES,
        '"\\"",\ud800' * (MAX_VALUES + 1),
    ],
)
def test_document_above_the_value_limit_is_rejected(document: bytes | str) -> None:
    with pytest.raises(ValidationError, match=f"has more than {MAX_VALUES} values"):
        check_value_count(document, "it")


def test_body_above_the_value_limit_is_rejected_with_the_reason() -> None:
    with pytest.raises(ValidationError, match=f"has more than {MAX_VALUES} values") as caught:
        Document.parse(b'{"text": "t", "source": "s", "more": [' + b"1," * MAX_VALUES + b"1]}")
    assert caught.value.error_count() == 1


@given(JSON)
def test_commas_and_brackets_outside_of_strings_are_counted(document: object) -> None:
    found = _counted(document)
    for most in (found, found - 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_bounds, "MAX_VALUES", max(0, most))
            assert _is_refused(json.dumps(document)) is (found > max(0, most))


def _is_refused(document: str) -> bool:
    try:
        check_value_count(document, "it")
    except ValidationError:
        return True
    return False


def _counted(document: object) -> int:
    inner = list(document.values()) if isinstance(document, dict) else document if isinstance(document, list) else None
    return 0 if inner is None else max(1, len(inner)) + sum(map(_counted, inner))
