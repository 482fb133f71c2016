"""Draws messages a second as bars, in SVG."""

from __future__ import annotations

from html import escape
from statistics import median

from .cells import CELLS
from .peers import LIMIT, SERVERS, SUBJECT
from .report import Record, pick

WIDTH, NAMES, FIGURES = 760, 190, 80
BAR, GAP, HEAD = 16, 5, 34
COLOURS = {SUBJECT: '#1b6ac9', LIMIT: '#9a9a9a'}
OTHERS = '#c3cfdc'


def bars(title: str, rates: dict[str, float], top: int) -> tuple[str, int]:
    """A group of bars that begins at `top`, and where it ends."""
    most = max(rates.values())
    room = WIDTH - NAMES - FIGURES
    parts = [
        f'<text x="8" y="{top + 22}" font-weight="bold">{escape(title)}</text>'
    ]
    y = top + HEAD
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        width = max(1.0, rate / most * room)
        middle = y + BAR - 4
        weight = ' font-weight="bold"' if name == SUBJECT else ''
        parts.append(
            f'<text x="{NAMES - 8}" y="{middle}" text-anchor="end"{weight}>'
            f'{escape(SERVERS[name].title)}</text>'
            f'<rect x="{NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" '
            f'fill="{COLOURS.get(name, OTHERS)}"/>'
            f'<text x="{NAMES + width + 6:.1f}" y="{middle}"{weight}>'
            f'{rate:,.0f}</text>'
        )
        y += BAR + GAP
    return '\n'.join(parts), y + 8


def draw(records: dict[str, Record]) -> str | None:
    """The picture, or None where there is nothing to draw."""
    groups = []
    y = 0
    for name, record in records.items():
        if name not in CELLS or not CELLS[name].chart or not record.results:
            continue
        rates = {
            peer: median(pick(rounds, 'rate'))
            for peer, rounds in record.results.items()
        }
        group, y = bars(f'{CELLS[name].title}: messages/s', rates, y)
        groups.append(group)
    if not groups:
        return None
    body = '\n'.join(groups)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
        f'width="{WIDTH}" height="{y}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f'{body}\n</svg>\n'
    )
