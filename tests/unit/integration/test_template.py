"""Templates: a value fills its placeholder and cannot escape it."""

import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from poise.errors import InvalidMessageError
from poise_services.integration.fetch_handler import select_parameters
from poise_services.integration.settings import Api
from poise_services.integration.template import fill, fill_url, placeholders

ADDRESS = "https://host.example/of/{place}/now?q={question}&n=1"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
@example("a/b/../c", "x&key=mine#there?")
def test_a_value_stays_in_its_place(place: str, question: str) -> None:
    parts = urlsplit(fill_url(ADDRESS, {"place": place, "question": question}))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "host.example", "")
    before, of, filled, now = parts.path.split("/")
    assert (before, of, unquote(filled), now) == ("", "of", place, "now")
    assert parse_qs(parts.query, keep_blank_values=True) == {"q": [question], "n": ["1"]}


@given(TEXTS)
def test_a_value_in_a_body_is_always_a_string(question: str) -> None:
    template: JsonValue = {"query": ["about {question}", {"{question}": 3}], "limit": 5, "none": None}
    filled = json.loads(json.dumps(fill(template, {"question": question})))
    assert filled == {"query": [f"about {question}", {"{question}": 3}], "limit": 5, "none": None}


def test_a_value_that_looks_like_a_placeholder_is_not_expanded() -> None:
    assert fill("{a} {b}", {"a": "{b}", "b": "x"}) == "{b} x"


def test_other_braces_are_literal() -> None:
    assert placeholders("{} {1} { a } {a-b} {{a}}") == {"a"}
    assert fill("{} {1} {{a}}", {"a": "x"}) == "{} {1} {x}"


def test_a_missing_parameter_is_named() -> None:
    api = Api(url=ADDRESS)
    with pytest.raises(InvalidMessageError, match=r"parameters\.question is missing") as caught:
        select_parameters(api, {"place": "here", "other": "x"})
    assert [error.field for error in caught.value.fault().errors] == ["parameters.question"]
    assert select_parameters(api, {"place": "here", "question": "x", "other": "x"}) == {
        "place": "here",
        "question": "x",
    }


@pytest.mark.parametrize("step", [".", "..", "../admin", "x/../../admin", "x\\..\\admin", "x/.."])
def test_a_dot_segment_in_a_path_is_rejected(step: str) -> None:
    with pytest.raises(InvalidMessageError, match=r"parameters\.place is part of a URL's path"):
        select_parameters(Api(url=ADDRESS), {"place": step, "question": "x"})
    assert select_parameters(Api(url=ADDRESS), {"place": "x", "question": step})


def test_two_placeholders_cannot_form_a_dot_segment() -> None:
    api = Api(url="https://host.example/of/{a}{b}?q={c}")
    with pytest.raises(InvalidMessageError, match=r"parameters\.a is part .*parameters\.b is part"):
        select_parameters(api, {"a": ".", "b": ".", "c": ".."})
    assert select_parameters(api, {"a": "..", "b": "x", "c": ".."})


def test_no_parameter_replaces_a_secret() -> None:
    api = Api.model_validate({"url": "https://host.example/?q={question}&key={key}", "secrets": {"key": "s"}})
    assert select_parameters(api, {"question": "x", "key": "mine"}) == {"question": "x"}
