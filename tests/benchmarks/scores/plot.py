"""The reliability diagram of a score as an SVG."""

from collections.abc import Sequence
from html import escape
from typing import Final

from tests.benchmarks.scores.separation import Bin

SIZE: Final = 320
EDGE: Final = 40


def reliability_svg(name: str, bins: Sequence[Bin]) -> str:
    """Return a plot of the share of right answers by score; a calibrated score is on the dashed line."""
    span = SIZE - 2 * EDGE

    def at(score: float, share: float) -> tuple[float, float]:
        return round(EDGE + span * score, 1), round(SIZE - EDGE - span * share, 1)

    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="{2 + one.count**0.5 / 2:.1f}" fill="#2563eb"><title>{one.count} answers</title>'
        "</circle>"
        for one in bins
        for x, y in [at(one.mean, one.right)]
    )
    path = " ".join(f"{x},{y}" for x, y in (at(one.mean, one.right) for one in bins))
    ticks = "".join(
        f'<text x="{at(tick / 4, 0)[0]}" y="{SIZE - EDGE + 16}" text-anchor="middle">{tick / 4:g}</text>'
        f'<text x="{EDGE - 6}" y="{at(0, tick / 4)[1] + 4}" text-anchor="end">{tick / 4:g}</text>'
        for tick in range(5)
    )
    (left, bottom), (right, top) = at(0, 0), at(1, 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" font-family="sans-serif" font-size="11">'
        f'<rect width="{SIZE}" height="{SIZE}" fill="white"/>'
        f'<rect x="{left}" y="{top}" width="{span}" height="{span}" fill="none" stroke="#999"/>'
        f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{top}" stroke="#999" stroke-dasharray="4"/>'
        f'<polyline points="{path}" fill="none" stroke="#2563eb"/>{dots}{ticks}'
        f'<text x="{SIZE / 2}" y="20" text-anchor="middle" font-size="13">{escape(name)}</text>'
        f'<text x="{SIZE / 2}" y="{SIZE - 6}" text-anchor="middle">score</text>'
        f'<text x="12" y="{SIZE / 2}" text-anchor="middle" transform="rotate(-90 12 {SIZE / 2})">share that is right'
        "</text></svg>\n"
    )
