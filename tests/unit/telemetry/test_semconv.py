import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import source_files

from poise.telemetry import semconv

ROOT = Path(__file__).parents[3]
SOURCES = [path for _, path in source_files()]


def test_each_metric_is_listed_once_with_a_conventional_name() -> None:
    written = [value for value in vars(semconv).values() if isinstance(value, semconv.Instrument)]

    assert len({instrument.name for instrument in written}) == len(written)
    for instrument in written:
        assert re.fullmatch(r"(poise|messaging|gen_ai|http)(\.[a-z_]+)+", instrument.name), instrument.name
        assert instrument.description.endswith("."), instrument.name
        assert semconv.INSTRUMENTS[instrument.name] is instrument


def test_buckets_ascend() -> None:
    for instrument in semconv.INSTRUMENTS.values():
        if isinstance(instrument, semconv.Histogram):
            assert list(instrument.buckets) == sorted(set(instrument.buckets)), instrument.name


def test_attribute_names_are_unique() -> None:
    names = [value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)]

    assert len(names) == len(set(names))


def calls(*functions: str) -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in functions
                and node.args
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def of_table(node: ast.expr) -> object:
    """Return the value of `semconv.NAME`; None for any other expression."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "semconv":
        return getattr(semconv, node.attr)
    return None


@pytest.mark.parametrize("name", ["count", "measure", "adjust"])
def test_metrics_are_recorded_with_listed_attributes(name: str) -> None:
    for place, call in calls(name):
        instrument = of_table(call.args[0])
        assert isinstance(instrument, semconv.Instrument), f"{place}: {name} takes an instrument of the table"
        said = next((node for node in call.args[2:] if isinstance(node, ast.Dict)), ast.Dict([], []))
        for key in filter(None, said.keys):
            assert of_table(key) in instrument.attributes, f"{place}: {instrument.name} has no such attribute"


def test_span_names_are_listed() -> None:
    for place, call in calls("span"):
        assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"{place}: put this name into the table"
