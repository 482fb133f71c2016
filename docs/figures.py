"""Draws the figures of the documentation, as SVG.

python docs/figures.py          writes docs/figures/*.svg
python docs/figures.py --check  says whether they are as they should be
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

PLACE = Path(__file__).resolve().parent / 'figures'

INK = '#1f2933'
SOFT = '#52606d'
FILLS = {
    'python': '#fde8c8',
    'c': '#d3e6f8',
    'system': '#e4e7eb',
    'state': '#dcf2e0',
    'end': '#f8dcdc',
}


class Figure:
    """Boxes, arrows and words, at places that are counted in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}" role="img" '
            'font-family="sans-serif" font-size="14">',
            f'<title>{escape(title)}</title>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
            f'<path d="M0 0L8 4L0 8z" fill="{SOFT}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>',
        ]

    def box(
        self, x: int, y: int, width: int, height: int, kind: str, *words: str
    ) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" '
            f'rx="6" fill="{FILLS[kind]}" stroke="{SOFT}"/>'
        )
        first, *rest = words
        middle = x + width // 2
        top = y + height // 2 + 5 - 9 * len(rest)
        self.text(middle, top, first, bold=True, anchor='middle')
        for number, line in enumerate(rest, 1):
            self.text(middle, top + 18 * number, line, anchor='middle')

    def text(
        self,
        x: int,
        y: int,
        words: str,
        *,
        bold: bool = False,
        anchor: str = 'start',
    ) -> None:
        weight = ' font-weight="bold"' if bold else ''
        size = '' if bold else ' font-size="12"'
        self.parts.append(
            f'<text x="{x}" y="{y}" fill="{INK}" text-anchor="{anchor}"'
            f'{weight}{size}>{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[int, int], both: bool = False) -> None:
        path = 'L'.join(f'{x} {y}' for x, y in points)
        start = ' marker-start="url(#tip)"' if both else ''
        self.parts.append(
            f'<path d="M{path}" fill="none" stroke="{SOFT}" '
            f'stroke-width="1.5" marker-end="url(#tip)"{start}/>'
        )

    def __str__(self) -> str:
        return '\n'.join([*self.parts, '</svg>']) + '\n'


def types() -> Figure:
    """The five types, each on the one that it is made of."""
    figure = Figure(640, 330, 'The five types of twspy')
    rows = [
        ('Server', 'many connections, handlers with a client', 'python'),
        ('Connection', 'sends and receives messages, handlers', 'c'),
        ('Message', 'text or bytes', 'c'),
        ('websocket', 'a socket that sends and receives frames', 'c'),
        ('Frame', 'header and payload, as on the wire', 'c'),
    ]
    for number, (name, meaning, kind) in enumerate(rows):
        y = 15 + 62 * number
        figure.box(20, y, 150, 44, kind, name)
        figure.text(195, y + 27, meaning)
        if number:
            figure.arrow((95, y - 17), (95, y - 2))
    figure.arrow((455, 42), (540, 42), (540, 98), (455, 98))
    figure.text(548, 74, 'makes one')
    figure.text(548, 90, 'for each client')
    return figure


def way() -> Figure:
    """What a message passes in a server, from the wire and back."""
    figure = Figure(680, 420, "A message's way through a server")
    rows = [
        ('handlers', 'your program', 'python'),
        ('csrc/python', 'str or bytes, Message, the GIL', 'c'),
        ('csrc/engine', 'who is served when, on which thread', 'c'),
        ('csrc/protocol', 'header, mask, UTF-8, limits, inflate', 'c'),
        ('csrc/net, csrc/loop', 'sockets, TLS  |  epoll, timers', 'c'),
        ('kernel', 'TCP', 'system'),
    ]
    notes = [
        ('onmessage(client, message)', 'client.send(message)'),
        ('made once a message', 'header is put in front'),
        ('one read for many messages', 'one write for many answers'),
        ('unmasked where it lies', 'nothing is masked'),
        ('readable', 'writable'),
        ('', ''),
    ]
    for number, (name, meaning, kind) in enumerate(rows):
        y = 15 + 68 * number
        figure.box(205, y, 270, 48, kind, name, meaning)
        left, right = notes[number]
        figure.text(165, y + 28, left, anchor='end')
        figure.text(515, y + 28, right)
    figure.arrow((185, 385), (185, 40), (203, 40))
    figure.arrow((477, 40), (495, 40), (495, 385), (477, 385))
    figure.parts.append(
        f'<path d="M205 385L185 385" stroke="{SOFT}" stroke-width="1.5"/>'
    )
    return figure


def states() -> Figure:
    """The states of a connection, as `Connection.state` names them."""
    figure = Figure(680, 300, 'States of a connection')
    figure.box(20, 110, 130, 60, 'state', 'connecting', 'onhandshake')
    figure.box(250, 110, 130, 60, 'state', 'open', 'onmessage')
    figure.box(480, 20, 160, 60, 'state', 'closing', 'Close was sent')
    figure.box(480, 210, 160, 60, 'end', 'closed', 'onclose')
    figure.arrow((150, 140), (248, 140))
    figure.text(199, 130, '101', anchor='middle')
    figure.text(199, 160, 'onopen', anchor='middle')
    figure.arrow((380, 130), (430, 50), (478, 50))
    figure.text(322, 62, 'close(), a limit,')
    figure.text(322, 80, 'a broken rule')
    figure.arrow((560, 80), (560, 208))
    figure.text(568, 130, 'Close received, or')
    figure.text(568, 148, 'close_timeout')
    figure.arrow((380, 150), (430, 240), (478, 240))
    figure.text(270, 205, 'Close of the peer,')
    figure.text(270, 223, 'end of the network,')
    figure.text(270, 241, 'no answer to a ping')
    figure.arrow((85, 170), (85, 285), (560, 285), (560, 272))
    figure.text(95, 277, 'refused, or open_timeout: no onclose')
    return figure


FIGURES = {'types': types, 'way': way, 'states': states}


def main() -> int:
    status = 0
    PLACE.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        path = PLACE / f'{name}.svg'
        if '--check' not in sys.argv[1:]:
            path.write_text(str(draw()), encoding='utf-8')
        elif not path.exists() or path.read_text('utf-8') != str(draw()):
            print(f'{path} is not what docs/figures.py draws: run it')
            status = 1
    return status


if __name__ == '__main__':
    sys.exit(main())
