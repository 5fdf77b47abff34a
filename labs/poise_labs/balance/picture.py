"""Draws the act as an SVG for light and dark pages: quality by variant over time, shares below. Pure."""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from poise.contracts.policy import Sample
from poise_labs.balance.timeline import EventKind, Timeline, format_clock, format_percent

WIDTH: Final = 1000
HEIGHT: Final = 492
LEFT: Final = 84
RIGHT: Final = 880
"""The x coordinates of the time axis; the margins are for text."""
QUALITY: Final = (96.0, 316.0)
"""The y coordinates of quality 1 and quality 0."""
SHARES: Final = (356.0, 456.0)
POINTS: Final = 160
LINE: Final = 18.0
"""The height of a line of text."""
WINDOW: Final = 25
"""The number of answers whose mean is one point of a curve."""
MIN_ANSWERS: Final = 8
"""Answers before a curve begins: a mean of fewer is not meaningful."""
LABELS: Final[tuple[tuple[EventKind, str], ...]] = (
    ("fault", "fault begins"),
    ("noticed", "noticed"),
    ("fault_fixed", "fault fixed"),
    ("restored", "share restored"),
)

_OPENING: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    ' role="img" aria-labelledby="title desc">'
)
_STYLE: Final = """
    text { font: 13px ui-sans-serif, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2937 }
    .panel { fill: #f8fafc; stroke: #cbd5e1 }
    .title { font-size: 16px; font-weight: 600 }
    .note, .tick { font-size: 11.5px; fill: #64748b }
    .end { text-anchor: end }
    .middle { text-anchor: middle }
    .grid { stroke: #cbd5e1; stroke-width: 1; fill: none }
    .fault { fill: #dc2626; opacity: .08 }
    .mark { stroke: #64748b; stroke-width: 1.2; stroke-dasharray: 4 3 }
    .curve { fill: none; stroke-width: 2.2; stroke-linejoin: round }
    .c0 { stroke: #15803d } .b0 { fill: #15803d; opacity: .15 } .t0 { fill: #15803d; font-weight: 600 }
    .c1 { stroke: #a21caf } .b1 { fill: #a21caf; opacity: .15 } .t1 { fill: #a21caf; font-weight: 600 }
    .a1 { fill: #a21caf; opacity: .35 } .a0 { fill: #15803d; opacity: .2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e2e8f0 }
      .panel { fill: #0f172a; stroke: #334155 }
      .note, .tick { fill: #94a3b8 }
      .grid { stroke: #334155 }
      .fault { fill: #f87171; opacity: .12 }
      .mark { stroke: #94a3b8 }
      .c0 { stroke: #4ade80 } .b0 { fill: #4ade80 } .t0 { fill: #4ade80 } .a0 { fill: #4ade80 }
      .c1 { stroke: #e879f9 } .b1 { fill: #e879f9 } .t1 { fill: #e879f9 } .a1 { fill: #e879f9 }
    }
"""


def svg(timeline: Timeline) -> str:
    """Return the picture of an act, an SVG document."""
    return "\n".join(
        [
            _OPENING,
            f'  <title id="title">{escape(_title(timeline))}</title>',
            f'  <desc id="desc">{escape(_description(timeline))}</desc>',
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="12"/>',
            _text(24, 32, _title(timeline), "title"),
            _text(24, 52, _subtitle(timeline), "note"),
            *_axes(timeline),
            *_curves(timeline),
            *_areas(timeline),
            *_marks(timeline),
            "</svg>",
            "",
        ]
    )


# -- text -------------------------------------------------------------------------------------------------------------


def _title(timeline: Timeline) -> str:
    if timeline.first("noticed") is None:
        moved = len({tuple(point.shares.items()) for point in timeline.weights}) > 1
        return f"{len(timeline.answers)} answers: {'weights moved' if moved else 'nothing moved'}"
    back = ", and later restored it" if timeline.first("restored") else ""
    return f"{timeline.suspect} got worse without an error; the mesh noticed, decreased its share{back}"


def _subtitle(timeline: Timeline) -> str:
    lasted = timeline.now - timeline.began
    return (
        f"A real run: {len(timeline.answers)} answers of a small model in {format_clock(lasted)} min, each scored as it"
        f" was given. Curves: mean quality of a variant's last {WINDOW} answers, and its 95 % interval."
    )


def _description(timeline: Timeline) -> str:
    return " ".join(f"{format_clock(mark.at - timeline.began)}: {mark.text}." for mark in timeline.events)


# -- axes -------------------------------------------------------------------------------------------------------------


def _axes(timeline: Timeline) -> Sequence[str]:
    lines: list[str] = []
    fault, fixed = timeline.first("fault"), timeline.first("fault_fixed")
    if fault is not None:
        left, right = _x(timeline, fault.at), _x(timeline, fixed.at if fixed else timeline.now)
        lines.append(_rect(left, QUALITY[0], right - left, SHARES[1] - QUALITY[0], "fault"))
    for value in (0.0, 0.5, 1.0):
        lines += [_across(_y(value, QUALITY)), _text(LEFT - 10, _y(value, QUALITY) + 4, f"{value:g}", "tick end")]
        lines += [_across(_y(value, SHARES)), _text(LEFT - 10, _y(value, SHARES) + 4, f"{value:.0%}", "tick end")]
    lines += [_text(LEFT, QUALITY[0] - 26, "quality of the answers", "note")]
    lines += [_text(LEFT, SHARES[0] - 8, "share of the asks", "note")]
    for at in _ticks(timeline.now - timeline.began):
        lines.append(_text(_x(timeline, timeline.began + at), SHARES[1] + 20, format_clock(at), "tick middle"))
    return lines


def _ticks(lasted: float) -> Sequence[float]:
    """Return the labeled times of the axis: five to ten of them, at round steps."""
    step = next((step for step in (5, 10, 15, 30, 60, 120, 300, 600) if lasted / step <= 10), 1_800)  # noqa: PLR2004
    return [step * number for number in range(int(lasted // step) + 1)]


# -- curves and areas -------------------------------------------------------------------------------------------------


def _times(timeline: Timeline) -> Sequence[float]:
    lasted = timeline.now - timeline.began
    return [timeline.began + lasted * number / POINTS for number in range(POINTS + 1)]


def _curves(timeline: Timeline) -> Sequence[str]:
    lines: list[str] = []
    ends: dict[int, float] = {}
    for number, variant in enumerate(timeline.variants):
        found = [
            (_x(timeline, at), one)
            for at in _times(timeline)
            if (one := timeline.quality(variant, until=at, window=WINDOW)) is not None and one.count >= MIN_ANSWERS
        ]
        if found:
            lines += _curve(found, number)
            ends[number] = found[-1][1].mean
    y = -LINE
    for number, mean in sorted(ends.items(), key=lambda end: -end[1]):  # the best on top, without overlap
        y = max(_y(mean, QUALITY) - LINE / 4, y + LINE)
        lines.append(_text(RIGHT + 10, y, f"{timeline.variants[number]} {mean:.2f}", f"t{number}"))
    return lines


def _curve(found: Sequence[tuple[float, Sample]], number: int) -> Sequence[str]:
    upper = [(x, _y(one.high, QUALITY)) for x, one in found]
    lower = [(x, _y(one.low, QUALITY)) for x, one in found]
    mean = [(x, _y(one.mean, QUALITY)) for x, one in found]
    return [
        f'  <path class="b{number}" d="{_path([*upper, *reversed(lower)])}Z"/>',
        f'  <path class="curve c{number}" d="{_path(mean)}"/>',
    ]


def _areas(timeline: Timeline) -> Sequence[str]:
    """Return the stacked areas of the shares, the suspect's at the bottom."""
    bottom = [0.0] * len(timeline.weights)
    lines: list[str] = []
    for number, variant in reversed(list(enumerate(timeline.variants))):
        top = [below + one.shares.get(variant, 0.0) for below, one in zip(bottom, timeline.weights, strict=True)]
        lines.append(f'  <path class="a{number}" d="{_area(timeline, bottom, top)}"/>')
        if top:
            y = _y((bottom[-1] + top[-1]) / 2, SHARES) + 4
            lines.append(_text(RIGHT + 10, y, f"{variant} {format_percent(top[-1] - bottom[-1])}", f"t{number}"))
        bottom = top
    return lines


def _area(timeline: Timeline, bottom: Sequence[float], top: Sequence[float]) -> str:
    """Return the area between two step lines."""
    starts = [_x(timeline, one.at) for one in timeline.weights]
    ends = [*starts[1:], float(RIGHT)]
    above = [(x, _y(high, SHARES)) for at, till, high in zip(starts, ends, top, strict=True) for x in (at, till)]
    below = [(x, _y(low, SHARES)) for at, till, low in zip(starts, ends, bottom, strict=True) for x in (at, till)]
    return f"{_path([*above, *reversed(below)])}Z" if above else ""


# -- events -----------------------------------------------------------------------------------------------------


def _marks(timeline: Timeline) -> Sequence[str]:
    lines: list[str] = []
    for number, (kind, text) in enumerate(LABELS):
        mark = timeline.first(kind)
        if mark is not None:
            x, y = _x(timeline, mark.at), QUALITY[0] - (24 if number % 2 else 8)
            lines.append(f'  <path class="mark" d="M{x:.1f} {y + 4}V{SHARES[1]}"/>')
            lines.append(_text(x + 4, y, _label(timeline, kind, text)))
    return lines


def _label(timeline: Timeline, kind: EventKind, text: str) -> str:
    count = timeline.answers_between("fault", "noticed", timeline.suspect) if kind == "noticed" else None
    return text if count is None else f"{text}, after {count} of its answers"


# -- drawing ----------------------------------------------------------------------------------------------------------


def _x(timeline: Timeline, at: float) -> float:
    lasted = max(timeline.now - timeline.began, 1e-9)
    return LEFT + (RIGHT - LEFT) * max(0.0, min(1.0, (at - timeline.began) / lasted))


def _y(value: float, between: tuple[float, float]) -> float:
    top, bottom = between
    return bottom - (bottom - top) * value


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _across(y: float) -> str:
    return f'  <path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'  <rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'  <text{named} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
