"""Messages in fragments (RFC 6455 section 5.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from conformance.script import (
    Frame,
    Script,
    Step,
    binary,
    chopped,
    close,
    closes,
    fails,
    first,
    frame,
    more,
    part,
    ping,
    pong,
    script,
    sees,
    text,
    variants,
)
from conformance.table import BYTES, JOINED, WHOLE, Row
from rawpeer import BINARY, CONTINUATION, PING, PONG, TEXT

JOINS = [
    Row(
        f'fragments-{name}',
        '5.4',
        'fragments make a message, whatever their sizes',
        variants(
            *(
                script(
                    first(parts[0], opcode),
                    *(part(piece) for piece in parts[1:-1]),
                    more(parts[-1]),
                    sees(frame(opcode, ''.join(parts))),
                )
                for opcode in (TEXT, BINARY)
            )
        ),
        autobahn=case,
    )
    for name, parts, case in (
        ('two', ('fragment1', 'fragment2'), '5.3-5.5'),
        ('three', ('one', 'two', 'three'), ''),
        ('first-empty', ('', 'fragment2'), ''),
        ('last-empty', ('fragment1', ''), ''),
        ('middle-empty', ('fragment1', '', 'fragment2'), '6.1.3'),
        ('all-empty', ('', '', ''), '6.1.1-6.1.2'),
        ('two-empty', ('', ''), ''),
        ('each-a-byte', tuple('fragment by fragment'), ''),
        ('text-outside-ascii', ('grö', 'ßer', ' — ünï'), ''),
    )
]
JOINS += [
    Row(
        'fragments-many',
        '5.4',
        'a message may be of many fragments',
        script(
            first(b'0', BINARY),
            *[part(b'*')] * 3000,
            more(b'1'),
            sees(binary(b'0' + b'*' * 3000 + b'1')),
        ),
        splits=(WHOLE, JOINED),
    ),
    Row(
        'fragments-unequal',
        '5.4',
        'a long fragment follows short ones, and the other way round',
        variants(
            *(
                script(
                    first(b'*' * sizes[0], BINARY),
                    *(part(b'*' * size) for size in sizes[1:-1]),
                    more(b'*' * sizes[-1]),
                    sees(binary(b'*' * sum(sizes))),
                )
                for sizes in (
                    (1, 65536),
                    (65536, 1),
                    (125, 126, 127, 128),
                    (0, 70000, 0, 20000, 3),
                    (16383, 16384, 16385),
                )
            )
        ),
        splits=(WHOLE, 'cuts', JOINED),
    ),
    Row(
        'fragments-chopped',
        '5.4',
        'fragments in pieces of a byte which nothing waits between',
        script(
            chopped(1, first('fragment1'), more('fragment2')),
            sees(text('fragment1fragment2')),
        ),
        splits=(WHOLE,),
        autobahn='5.5',
    ),
]

BETWEEN = [
    Row(
        'fragments-ping-between',
        '5.4',
        'control frames pass between fragments, and are answered at once',
        script(
            first('Hel'),
            ping('now'),
            sees(pong('now')),
            more('lo'),
            sees(text('Hello')),
        ),
        autobahn='5.6-5.8',
    ),
    Row(
        'fragments-pings-between',
        '5.5.2',
        'so they are again and again',
        script(
            first('1', BINARY),
            part('2'),
            ping('pongme 1!'),
            part('3'),
            ping('pongme 2!'),
            sees(pong('pongme 1!'), pong('pongme 2!')),
            ping(),
            sees(pong()),
            more('4'),
            sees(binary('1234')),
        ),
        autobahn='5.19-5.20',
    ),
    Row(
        'fragments-pong-between',
        '5.5.3',
        'an unasked Pong between fragments does not matter',
        script(
            first('Hel'),
            pong('nobody asked'),
            part(),
            pong(),
            more('lo'),
            sees(text('Hello')),
        ),
    ),
    Row(
        'fragments-ping-in-character',
        '5.4',
        'a control frame passes where a character is cut in two',
        script(
            first(b'gr' + b'\xc3'),
            ping(b'\xff\xfe'),
            sees(pong(b'\xff\xfe')),
            more(b'\xb6' + 'ße'.encode()),
            sees(text('größe')),
        ),
    ),
    Row(
        'fragments-close-between',
        '5.5.1',
        'a Close frame ends a message that is not complete; none of it counts',
        variants(
            script(first('Hel'), close(1000), closes(1000)),
            script(
                first('Hel'),
                part('l'),
                close(1001, 'bye'),
                closes(1001, 'bye'),
            ),
            script(first('Hel'), close(1000), more('lo'), closes(1000)),
        ),
        autobahn='7.1.5',
    ),
]

CONTROL = [
    Row(
        f'fragmented-{name}',
        '5.4',
        'control frames are not fragmented',
        variants(
            script(frame(opcode, payload, fin=False), fails(1002)),
            script(frame(opcode, fin=False), fails(1002)),
            script(frame(opcode, fin=False, only=1), fails(1002)),
            script(
                frame(opcode, payload, fin=False), more('more'), fails(1002)
            ),
            script(first('Hel'), frame(opcode, fin=False), fails(1002)),
        ),
        autobahn=case,
    )
    for name, opcode, payload, case in (
        ('ping', 9, 'fragment1', '5.1'),
        ('pong', 10, 'fragment1', '5.2'),
        ('close', 8, b'\x03\xe8', ''),
    )
]

NO_START = [
    Row(
        f'continuation-{name}',
        '5.4',
        'a continuation has something to continue',
        variants(
            script(*frames, fails(1002)),
            script(*frames, text('Hello'), fails(1002)),
            script(
                text('before'),
                *frames,
                text('Hello'),
                sees(text('before')),
                fails(1002),
            ),
            script(
                first('one'),
                more('two'),
                *frames,
                sees(text('onetwo')),
                fails(1002),
            ),
            script(
                first('one'),
                more('two'),
                sees(text('onetwo')),
                ping(),
                *frames,
                sees(pong()),
                fails(1002),
            ),
        ),
        autobahn=case,
    )
    for name, frames, case in (
        ('alone', [more('non-continuation')], '5.9-5.11'),
        ('alone-unfinished', [part('non-continuation')], '5.12-5.17'),
        ('alone-empty', [more()], ''),
        ('alone-empty-unfinished', [part()], ''),
    )
]

NEW_START = [
    Row(
        f'start-{name}-in-message',
        '5.4',
        'a message begins after the end of the one before',
        variants(
            script(first('fragment1'), bad, fails(1002)),
            script(first('fragment1', BINARY), bad, fails(1002)),
            script(first(), bad, more('fragment2'), fails(1002)),
            script(first('1'), part('2'), bad, fails(1002)),
            script(first('1'), ping(), bad, sees(pong()), fails(1002)),
            script(
                first('1'),
                more('2'),
                first('3'),
                bad,
                sees(text('12')),
                fails(1002),
            ),
        ),
        autobahn='5.18' if bad.opcode == TEXT and bad.fin else '',
    )
    for name, bad in (
        ('text', text('fragment2')),
        ('text-unfinished', first('fragment2')),
        ('binary', binary('fragment2')),
        ('binary-unfinished', first('fragment2', BINARY)),
        ('text-empty', text()),
    )
]

# ------------------------------------------------------------- every order

# One letter a frame: what it carries is its place.
ALPHABET = {
    'T': Frame(TEXT),
    't': Frame(TEXT, fin=False),
    'b': Frame(BINARY, fin=False),
    'c': Frame(CONTINUATION, fin=False),
    'e': Frame(CONTINUATION),
    'P': Frame(PING),
    'O': Frame(PONG),
}


def expected(word: str) -> Iterator[Step]:
    """What must be seen of a sequence of frames: section 5.4, once more."""
    opcode, body = 0, ''
    for place, letter in enumerate(word):
        here = str(place)
        if letter == 'P':
            yield sees(pong(here))
        elif letter != 'O':
            starts = letter in 'Ttb'
            if starts == (opcode != 0):
                yield fails(1002)
                return
            if starts:
                opcode, body = BINARY if letter == 'b' else TEXT, ''
            body += here
            if letter in 'Te':
                yield sees(frame(opcode, body))
                opcode = 0


def order(word: str) -> Script:
    frames = [
        replace(ALPHABET[letter], payload=str(place).encode())
        for place, letter in enumerate(word)
    ]
    return script(*frames, *expected(word))


ORDERS = [
    Row(
        f'order-of-{count}',
        '5.4',
        f'every sequence of {count} frames is taken, or fails, as it must',
        variants(
            *(
                order(''.join(word))
                for word in itertools.product(ALPHABET, repeat=count)
            )
        ),
        splits=(WHOLE,) if count > 2 else (WHOLE, JOINED, BYTES),
    )
    for count in (1, 2, 3)
]

# ------------------------------------------------------- what our end sends


def in_pieces(opcode: int, payload: bytes, size: int) -> list[Frame]:
    """The fragments of a message that is sent in pieces of a size."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    if len(pieces) < 2:
        return [frame(opcode, payload)]
    return [
        frame(opcode if at == 0 else 0, piece, fin=at == len(pieces) - 1)
        for at, piece in enumerate(pieces)
    ]


SENDING = [
    Row(
        f'send-{length}-in-{size}',
        '5.4',
        f'a message is sent in fragments of {size} bytes, none of them empty',
        variants(
            *(
                script(
                    frame(opcode, b'*' * length),
                    sees(*in_pieces(opcode, b'*' * length, size)),
                )
                for opcode in (TEXT, BINARY)
            ),
            # The Pong does not wait, and does not fall into a frame.
            script(
                binary(b'*' * length),
                ping('now'),
                sees(*in_pieces(BINARY, b'*' * length, size), pong('now')),
            ),
        ),
        splits=(WHOLE,),
        autobahn='10.1.1' if (length, size) == (65536, 1300) else '',
        echo={'fragment_size': size},
    )
    for length, size in (
        (65536, 1300),
        (65536, 65535),
        (65536, 65536),
        (65536, 65537),
        (1000, 1),
        (1000, 125),
        (1000, 126),
        (1000, 500),
        (1000, 999),
        (1000, 1000),
        (0, 10),
    )
]
SENDING += [
    Row(
        'send-text-in-2',
        '5.4',
        'a character may be cut in two by fragments',
        script(
            text('gröößer'),
            sees(*in_pieces(TEXT, 'gröößer'.encode(), 2)),
        ),
        echo={'fragment_size': 2},
    )
]

ROWS = [
    *JOINS,
    *BETWEEN,
    *CONTROL,
    *NO_START,
    *NEW_START,
    *ORDERS,
    *SENDING,
]
