"""Limits (RFC 6455 section 10.4), and messages of up to 16 MiB in fragments
and pieces of many sizes (sections 5.2 and 5.4; Autobahn's section 9)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from conformance.roles import End
from conformance.script import (
    Frame,
    binary,
    check_frame,
    fails,
    first,
    more,
    part,
    ping,
    pong,
    script,
    sees,
    text,
    variants,
)
from conformance.table import CUTS, JOINED, WHOLE, Row
from rawpeer import BINARY, TEXT

KIB, MIB = 1 << 10, 1 << 20
KINDS = {'text': TEXT, 'binary': BINARY}
LARGE = {'max_size': 16 * MIB}


def size_name(size: int) -> str:
    if size < KIB:
        return f'{size}'
    return f'{size // KIB}k' if size < MIB else f'{size // MIB}m'


# -------------------------------------------------------------------- limits

SMALL = {'max_size': 1000}

LIMITS = [
    Row(
        'limit-exactly',
        '10.4',
        'a message of as many bytes as the limit passes',
        variants(
            script(text(b'*' * 1000), sees(text(b'*' * 1000))),
            script(binary(b'*' * 1000), sees(binary(b'*' * 1000))),
            script(
                first(b'*' * 600), more(b'*' * 400), sees(text(b'*' * 1000))
            ),
            script(
                first(b'*' * 1000), part(), more(), sees(text(b'*' * 1000))
            ),
            # What comes between does not count, and the next message begins
            # anew.
            script(
                first(b'*' * 999),
                ping(b'*' * 125),
                sees(pong(b'*' * 125)),
                more(b'*'),
                binary(b'*' * 1000),
                sees(text(b'*' * 1000), binary(b'*' * 1000)),
            ),
        ),
        splits=(WHOLE, CUTS, JOINED),
        options=SMALL,
    ),
    Row(
        'limit-header',
        '7.4.1',
        'one byte more is 1009, by the header alone',
        variants(
            script(text(length=1001), fails(1009)),
            script(binary(length=1001), fails(1009)),
            script(binary(length=65536), fails(1009)),
            script(binary(length=1 << 32), fails(1009)),
            script(first(b'*' * 1000), more(b'*'), fails(1009)),
            script(first(b'*' * 600), part(length=401), fails(1009)),
            script(first(b'*' * 600), more(length=(1 << 63) - 1), fails(1009)),
            script(
                binary('before'),
                binary(b'*' * 1001),
                ping(),
                sees(binary('before')),
                fails(1009),
            ),
        ),
        options=SMALL,
    ),
    Row(
        'limit-default',
        '7.4.1',
        'our limit is 1 MiB unless told otherwise',
        variants(
            script(binary(b'*' * MIB), sees(binary(b'*' * MIB))),
            script(binary(length=MIB + 1), fails(1009)),
            script(first(b'*' * MIB), more(b'*'), fails(1009)),
        ),
        splits=(WHOLE, JOINED),
    ),
    Row(
        'limit-fragments',
        '10.4',
        'fragments without end, all of them empty, are cut off: 1008',
        script(first(), *[part()] * (1 << 17), fails(1008)),
        splits=(WHOLE,),
    ),
]


# --------------------------------------------------------------------- sizes


@functools.cache
def whole_payload() -> bytes:
    block = b''.join(b'%07d ' % number for number in range(9973))
    return block * (16 * MIB // len(block) + 1)


def payload(size: int) -> bytes:
    """Not the same everywhere: what is lost, doubled or swapped shows."""
    return whole_payload()[:size]


class Echoed:
    """A `run` that makes its frames only when it runs: they are large."""

    def __init__(
        self, opcode: int, size: int, fragment: int = 0, chop: int = 0
    ) -> None:
        self.opcode = opcode
        self.size = size
        self.fragment = fragment or size
        self.chop = chop

    def frames(self) -> Iterator[Frame]:
        data = payload(self.size)
        for at in range(0, self.size, self.fragment):
            yield Frame(
                0 if at else self.opcode,
                data[at : at + self.fragment],
                fin=at + self.fragment >= self.size,
            )

    def __call__(self, end: End) -> None:
        end.open()
        data = b''.join(frame.pack(end.role) for frame in self.frames())
        if self.chop:
            end.send_chopped(data, self.chop)
        else:
            end.send(data)
        check_frame(
            end,
            end.peer.read_frame(),
            Frame(self.opcode, payload(self.size)),
        )


SIZES = [
    Row(
        f'size-{size_name(size)}-{kind}',
        '5.2',
        f'a message of {size // KIB} KiB in one frame',
        Echoed(opcode, size),
        splits=(WHOLE, JOINED) if size < MIB else (WHOLE,),
        autobahn=f'9.{opcode}.{case}',
        options=LARGE,
    )
    for kind, opcode in KINDS.items()
    for case, size in enumerate(
        (64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB), 1
    )
]
SIZES += [
    Row(
        f'size-4m-{kind}-fragments-{size_name(size)}',
        '5.4',
        f'a message of 4 MiB in fragments of {size} bytes',
        Echoed(opcode, 4 * MIB, fragment=size),
        splits=(WHOLE,),
        autobahn=f'9.{opcode + 2}.{case}',
        options=LARGE,
    )
    for kind, opcode in KINDS.items()
    for case, size in enumerate((64 << 2 * n for n in range(9)), 1)
]
SIZES += [
    Row(
        f'size-16m-{kind}-fragments-{name}',
        '5.4',
        f'a message of 16 MiB in fragments of {size} bytes',
        Echoed(opcode, 16 * MIB, fragment=size),
        splits=(WHOLE,),
        options=LARGE,
    )
    for kind, opcode in KINDS.items()
    for name, size in (('1m', MIB), ('16m-1', 16 * MIB - 1))
]
SIZES += [
    Row(
        f'size-1m-{kind}-chops-{size_name(size)}',
        '5.2',
        f'a message of 1 MiB in pieces of {size} bytes',
        Echoed(opcode, MIB, chop=size),
        splits=(WHOLE,),
        autobahn=f'9.{opcode + 4}.{case}',
        options=LARGE,
    )
    for kind, opcode in KINDS.items()
    for case, size in enumerate((64, 128, 256, 512, 1024, 2048), 1)
]


class Exchanged:
    """A `run`: so many messages, each once the one before was answered; and
    so many again without waiting."""

    def __init__(self, opcode: int, size: int) -> None:
        self.opcode = opcode
        self.size = size

    def __call__(self, end: End) -> None:
        end.open()
        wanted = Frame(self.opcode, payload(self.size))
        data = wanted.pack(end.role)
        for _ in range(1000):
            end.send(data)
            check_frame(end, end.peer.read_frame(), wanted)
        count = min(1000, 2_000_000 // max(self.size, 1))
        end.run(lambda: end.peer.send(data * count))
        for _ in range(count):
            check_frame(end, end.peer.read_frame(), wanted)


SIZES += [
    Row(
        f'messages-{size_name(size)}-{kind}',
        '5.6',
        f'1000 messages of {size} bytes, one by one and at a time',
        Exchanged(opcode, size),
        splits=(WHOLE,),
        autobahn=f'9.{opcode + 6}.{case}',
        options=LARGE,
    )
    for kind, opcode in KINDS.items()
    for case, size in enumerate((0, 16, 64, 256, 1024, 4096), 1)
]

ROWS = [*LIMITS, *SIZES]
