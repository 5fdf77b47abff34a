from xml.etree import ElementTree as ET

import pytest
from balance_kit import act

from poise_labs.balance.picture import HEIGHT, WIDTH, svg
from poise_labs.balance.timeline import Timeline

SVG = "{http://www.w3.org/2000/svg}"


def drawn(timeline: Timeline) -> ET.Element:
    return ET.fromstring(svg(timeline))  # noqa: S314 - it is ours


def texts(picture: ET.Element) -> list[str]:
    return [one.text or "" for one in picture.iter(f"{SVG}text")]


def test_picture_shows_the_events_in_order() -> None:
    picture = drawn(act())
    words = texts(picture)
    assert words[0] == "second got worse without an error; the mesh noticed, decreased its share, and later restored it"
    marked = [one for one in words if one.startswith(("fault", "noticed", "share restored"))]
    assert [one.split(",")[0] for one in marked] == [
        "fault begins",
        "noticed",
        "fault fixed",
        "share restored",
    ]
    assert marked[1].endswith(f"after {act().answers_between('fault', 'noticed', 'second')} of its answers")
    title, described = picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")
    assert title is not None
    assert described is not None
    assert "1:35: second answers worse" in (described.text or "")


def test_each_variant_has_a_curve_with_its_interval_and_an_area() -> None:
    classes = [one.get("class") for one in drawn(act()).iter(f"{SVG}path")]
    assert {"curve c0", "curve c1", "b0", "b1", "a0", "a1"} <= set(classes)
    assert classes.count("mark") == 4


def test_all_text_is_inside_the_picture() -> None:
    for one in drawn(act()).iter(f"{SVG}text"):
        assert 0 < float(one.get("x", -1)) < WIDTH
        assert 0 < float(one.get("y", -1)) < HEIGHT


def test_labels_do_not_overlap() -> None:
    at = [
        (float(one.get("x", -1)), float(one.get("y", -1)))
        for one in drawn(act()).iter(f"{SVG}text")
        if (one.text or "").startswith(("steady", "second 0"))
    ]
    assert len(at) >= 3
    assert all(abs(one[1] - other[1]) > 12 for one in at for other in at if one is not other)


def test_picture_of_a_run_without_decisions_states_that_nothing_moved() -> None:
    timeline = act(fault=False)
    assert texts(drawn(timeline))[0] == f"{len(timeline.answers)} answers: nothing moved"


@pytest.mark.parametrize("until", [0.0, 1.0, 20.0, 60.0, 100.0])
def test_interrupted_run_is_drawn_up_to_its_end(until: float) -> None:
    assert drawn(act(until)).tag == f"{SVG}svg"


def test_picture_has_a_dark_mode() -> None:
    assert "prefers-color-scheme: dark" in svg(act())


def test_variant_names_are_escaped() -> None:
    timeline = act()
    timeline.variants = ("steady", "<second>&")
    assert "<second>" not in svg(timeline)
