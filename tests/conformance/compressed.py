"""The words of rows about compression: what a peer with Python's own zlib
sends, and what must come back."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from conformance.roles import End
from conformance.script import (
    Frame,
    Script,
    Step,
    check_form,
    check_lives,
    frame,
    script,
)
from conformance.table import SERVER
from rawpeer import BINARY, CONTINUATION, TEXT
from zlibends import RSV1, TAIL, Deflater, Inflater, cut

MESSAGE = 'permessage-deflate'
DEFLATE = {'compression': 'deflate'}
# Echoes are not compressed: what is tried is what our end reads.
PLAIN = {'compress': False}


def talks(*steps: Step, extension: str = MESSAGE) -> Script:
    """A script after the peer has offered, or agreed to, the extension."""
    return script(*steps, Sec_WebSocket_Extensions=extension)


def squeezed(payload: str | bytes, **how: Any) -> bytes:
    """A message alone; `how`: of zlib.compressobj()."""
    data = payload.encode() if isinstance(payload, str) else payload
    made = zlib.compressobj(**{'wbits': -15} | how)
    out = made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(TAIL)
    return out[:-4]


def small(
    data: bytes, opcode: int = TEXT, size: int = 0, rsv: int = RSV1
) -> list[Frame]:
    """The frames of a message that has been compressed, of so many bytes."""
    return [
        frame(
            opcode if i == 0 else CONTINUATION,
            part,
            fin=last,
            rsv=rsv if i == 0 else 0,
        )
        for i, (part, last) in enumerate(cut(data, size))
    ]


def packed(payload: str | bytes, size: int = 0, **how: Any) -> list[Frame]:
    """The frames of a message that is compressed alone."""
    opcode = TEXT if isinstance(payload, str) else BINARY
    return small(squeezed(payload, **how), opcode, size)


# ------------------------------------------------------------- whole exchange


@dataclass(frozen=True)
class Terms:
    """What is agreed on, of what our end sends and of what the peer does."""

    our_bits: int = 15
    their_bits: int = 15
    our_takeover: bool = True
    their_takeover: bool = True


def text_of(role: str, terms: Terms) -> str:
    """What the peer offers or answers to get there."""
    ours, theirs = (
        ('server', 'client') if role == SERVER else ('client', 'server')
    )
    words = [MESSAGE]
    if terms.our_bits < 15:
        words.append(f'{ours}_max_window_bits={terms.our_bits}')
    if terms.their_bits < 15:
        words.append(f'{theirs}_max_window_bits={terms.their_bits}')
    if not terms.our_takeover:
        words.append(f'{ours}_no_context_takeover')
    if not terms.their_takeover:
        words.append(f'{theirs}_no_context_takeover')
    return '; '.join(words)


@dataclass(frozen=True)
class Exchange:
    """A `run`: messages that are echoed, compressed both ways under these
    terms. A peer that keeps to them less than our end does can't read them.

    size: of the peer's frames; 0: a message is one frame.
    options: of our end, by its role.
    offers: of a peer that is the client, where it makes more than one.
    """

    terms: Terms
    messages: Sequence[str | bytes | Taken]
    size: int = 0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    offers: str | None = None

    def __call__(self, end: End) -> None:
        terms = self.terms
        end.options = dict(end.options) | dict(self.options.get(end.role, {}))
        said = text_of(end.role, terms)
        if end.role == SERVER and self.offers is not None:
            said = self.offers
        end.open(Sec_WebSocket_Extensions=said)
        deflate = Deflater(terms.their_bits, terms.their_takeover)
        inflate = Inflater(terms.our_bits, terms.our_takeover)
        for number, given in enumerate(self.messages):
            message = given() if isinstance(given, Taken) else given
            text = isinstance(message, str)
            data = message.encode() if isinstance(message, str) else message
            frames = small(deflate(data), TEXT if text else BINARY, self.size)
            end.send(b''.join(one.pack(end.role) for one in frames))
            if number == 0:
                end.settle()
                check_answer(end)
            opcode, got = read_message(end, inflate)
            assert opcode == (TEXT if text else BINARY)
            if got != data:
                raise AssertionError(f'message {number}: {got[:80]!r}')
        check_lives(end)


def check_answer(end: End) -> None:
    names = [one.name for one in end.connection.extensions]
    assert names == [MESSAGE]


def read_message(end: End, inflate: Inflater) -> tuple[int, bytes]:
    """A message that our end sends, in frames of any number."""
    frames = [end.peer.read_frame()]
    while not frames[-1].fin:
        frames.append(end.peer.read_frame())
    for number, one in enumerate(frames):
        check_form(end, one)
        assert (one.opcode == CONTINUATION) is (number > 0), one.opcode
        # RFC 7692 section 6.1: of a message the first frame says it.
        assert one.rsv in ((0, RSV1) if number == 0 else (0,)), one.rsv
    data = b''.join(one.payload for one in frames)
    return frames[0].opcode, inflate(data) if frames[0].rsv else data


# ----------------------------------------------------------------------- data


@cache
def corpus() -> dict[str, bytes]:
    """Data of the kinds that Autobahn takes."""
    rng = random.Random(7692)
    words = [
        ''.join(rng.choices('enisratdhulcgmobwfkzvpjyqxäöüß', k=n))
        for n in range(2, 14)
        for _ in range(40)
    ]
    prose = ' '.join(rng.choices(words, k=40_000))
    records = [
        {
            'id': number,
            'name': ' '.join(rng.choices(words, k=3)),
            'value': rng.random(),
            'tags': rng.choices(words, k=4),
        }
        for number in range(1500)
    ]
    rows = ''.join(
        f'<tr class="row{n % 2}"><td>{n}</td><td>{w}</td></tr>\n'
        for n, w in enumerate(rng.choices(words, k=4000))
    )
    image = bytearray()
    for _ in range(512):
        image += bytes(
            min(255, max(0, 8 * (x % 32) + rng.randrange(-3, 4)))
            for x in range(512)
        )
    return {
        'json': json.dumps(records, ensure_ascii=False).encode(),
        'bitmap': bytes(image),
        'prose': prose.encode(),
        'html': f'<table>\n{rows}</table>\n'.encode(),
        'pdf': rng.randbytes(200_000) + b'endobj\nstream\n' * 5000,
    }


@dataclass(frozen=True)
class Taken:
    """So many bytes of a kind; other ones for each number."""

    kind: str
    size: int
    number: int

    def __call__(self) -> str | bytes:
        data = corpus()[self.kind]
        start = self.number * 997 % (len(data) - self.size)
        part = data[start : start + self.size]
        if self.kind in ('bitmap', 'pdf'):
            return part
        text = part.decode(errors='ignore')
        return text + ' ' * (self.size - len(text.encode()))
