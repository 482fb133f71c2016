"""Text is UTF-8 (RFC 6455 sections 5.6 and 8.1, RFC 3629). What is wrong with
bytes is said by Python's own decoder."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from conformance.script import (
    Frame,
    Script,
    binary,
    chopped,
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
from conformance.table import BYTES, JOINED, WHOLE, Row

KOSME = 'κόσμε'.encode()
NAMES = 'Hello-µ@ßöäüàá-UTF-8!!'.encode()


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# What may follow the beginning of a character, of each kind.
TAILS = [
    bytes(tail)
    for count in range(4)
    for tail in itertools.product((0x80, 0x90, 0xA0), repeat=count)
]


def impossible_at(data: bytes) -> int | None:
    """Up to which byte a text must be known before it is known to be wrong;
    None where it may go on well."""
    for at in range(1, len(data) + 1):
        if not any(is_text(data[:at] + tail) for tail in TAILS):
            return at
    return None


def points(*numbers: int) -> list[bytes]:
    return [chr(number).encode() for number in numbers]


# ------------------------------------------------------------- what is tried

VALID: dict[str, tuple[list[bytes], str]] = {
    'words': ([KOSME, NAMES, 'größer — ünï 😀'.encode()], '6.2, 6.5'),
    'first-of-length': (points(0, 0x80, 0x800, 0x10000), '6.7'),
    'last-of-length': (points(0x7F, 0x7FF, 0xFFFF, 0x10FFFF), '6.9'),
    'around-surrogates': (points(0xD7FF, 0xE000), '6.11.1-6.11.2'),
    'boundaries': (
        points(
            0xFFF, 0x1000, 0xCFFF, 0xD000, 0xFFFD, 0x3FFFF, 0x40000, 0xFFFFF
        )
        + points(0x100000, 0x10FFFF),
        '6.11.3-6.11.4',
    ),
    'noncharacters': (
        points(0xFFFE, 0xFFFF, 0xFDD0, 0xFDEF)
        + points(*(p << 16 | 0xFFFE for p in range(1, 17)))
        + points(*(p << 16 | 0xFFFF for p in range(1, 17))),
        '6.22',
    ),
    'specials': (points(0xFEFF, *range(0xFFF9, 0xFFFE)), '6.23'),
}

INVALID: dict[str, tuple[list[bytes], str]] = {
    'stray-continuation': (
        [
            b'\x80',
            b'\xbf',
            b'\x80\xbf',
            b'\x80\xbf\x80',
            b'\x80\xbf' * 3,
            bytes(range(0x80, 0xC0)),
            'ö'.encode() + b'\x80',
            '€'.encode() + b'\xbf',
            '😀'.encode() + b'\x80',
        ],
        '6.12',
    ),
    'lonely-start': (
        [
            *(
                bytes([lead, 0x20])
                for lead in (0xC2, 0xDF, 0xE0, 0xEF, 0xF0, 0xF4)
            ),
            *(
                b''.join(bytes([lead, 0x20]) for lead in leads)
                for leads in (
                    range(0xC0, 0xE0),
                    range(0xE0, 0xF0),
                    range(0xF0, 0xF8),
                    range(0xF8, 0xFC),
                    range(0xFC, 0xFE),
                )
            ),
        ],
        '6.13',
    ),
    'missing-continuation': (
        [
            b'\xdf ',
            b'\xe0\xa0 ',
            b'\xef\xbf ',
            b'\xf0\x90\x80 ',
            b'\xf4\x8f\xbf ',
            b'\xe2\x82\xe2\x82\xac',
            b'\xf0\x9f\x98\xf0\x9f\x98\x80',
            b'\xdf\xe0\xa0\xf0\x90\x80',
        ],
        '6.14-6.15',
    ),
    'truncated': (
        [
            b'\xc2',
            b'\xdf',
            b'\xe0\xa0',
            b'\xe1',
            b'\xef\xbf',
            b'\xf0\x90\x80',
            b'\xf1\x80',
            b'\xf4',
            *(KOSME[:n] for n in range(1, len(KOSME), 2) if n != 9),
        ],
        '6.6',
    ),
    'impossible-byte': (
        [
            b'\xfe\xfe\xff\xff',
            *(bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))),
        ],
        '6.16',
    ),
    'overlong-2': ([b'\xc0\xaf', b'\xc1\xbf', b'\xc0\x80'], '6.17-6.19'),
    'overlong-3': (
        [b'\xe0\x80\xaf', b'\xe0\x9f\xbf', b'\xe0\x80\x80'],
        '6.17-6.19',
    ),
    'overlong-4': (
        [b'\xf0\x80\x80\xaf', b'\xf0\x8f\xbf\xbf', b'\xf0\x80\x80\x80'],
        '6.17-6.19',
    ),
    'overlong-5-6': (
        [
            b'\xf8\x80\x80\x80\xaf',
            b'\xfc\x80\x80\x80\x80\xaf',
            b'\xf8\x87\xbf\xbf\xbf',
            b'\xfc\x83\xbf\xbf\xbf\xbf',
        ],
        '6.17-6.19',
    ),
    'length-5-6': (
        [
            b'\xf8\x88\x80\x80\x80',
            b'\xfc\x84\x80\x80\x80\x80',
            b'\xfb\xbf\xbf\xbf\xbf',
            b'\xfd\xbf\xbf\xbf\xbf\xbf',
        ],
        '6.8, 6.10.2-6.10.3',
    ),
    'above-10ffff': (
        [
            b'\xf4\x90\x80\x80',
            b'\xf4\xbf\xbf\xbf',
            b'\xf5\x80\x80\x80',
            b'\xf7\xbf\xbf\xbf',
        ],
        '6.10.1, 6.11.5',
    ),
    'surrogates': (
        [
            b'\xed\xa0\x80',
            b'\xed\xad\xbf',
            b'\xed\xae\x80',
            b'\xed\xaf\xbf',
            b'\xed\xb0\x80',
            b'\xed\xbe\x80',
            b'\xed\xbf\xbf',
        ],
        '6.20',
    ),
    'surrogate-pairs': (
        [
            high + low
            for high in (
                b'\xed\xa0\x80',
                b'\xed\xad\xbf',
                b'\xed\xae\x80',
                b'\xed\xaf\xbf',
            )
            for low in (b'\xed\xb0\x80', b'\xed\xbf\xbf')
        ],
        '6.21',
    ),
    'within-text': (
        [
            KOSME + b'\xed\xa0\x80' + b'edited',
            b'Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1'
            b'-UTF-8!!\xff',
            b'*' * 31 + b'\xff' + b'*' * 32,
        ],
        '6.3',
    ),
}

for tried, good in ((VALID, True), (INVALID, False)):
    for name, (sequences, _) in tried.items():
        for data in sequences:
            assert is_text(data) == good, (name, data)


# --------------------------------------------------------------- in which way


def octets(data: bytes) -> list[Frame]:
    """Each byte in a fragment of its own."""
    pieces = [data[at : at + 1] for at in range(len(data))]
    return [first(), *map(part, pieces[:-1]), more(pieces[-1])]


def fragmented(data: bytes) -> Iterator[list[Frame]]:
    """In two fragments, in each way; and in as many as possible."""
    for at in range(len(data) + 1):
        yield [first(data[:at]), more(data[at:])]
    yield octets(data)


def at_once(data: bytes) -> Iterator[Script]:
    """It fails with the byte that can't be, while more is announced."""
    size = impossible_at(data)
    if size is None:
        return
    known, bad = data[: size - 1], data[size - 1 : size]
    yield script(text(known + bad, length=size + 1), fails(1007))
    yield script(text(known + bad, length=1000), fails(1007))
    yield script(first(known + bad), fails(1007))
    yield script(
        first(b'**' + known),
        # Up to there it may go on well.
        ping(),
        sees(pong()),
        part(bad),
        fails(1007),
    )
    yield script(
        first(known),
        part(),
        more(bad + b'*', length=70_000),
        fails(1007),
    )


ROWS = [
    Row(
        f'utf8-{name}',
        '8.1',
        'valid UTF-8 passes',
        variants(*(script(text(data), sees(text(data))) for data in tried)),
        autobahn=case,
    )
    for name, (tried, case) in VALID.items()
]
ROWS += [
    Row(
        f'utf8-{name}-fragmented',
        '5.4',
        'wherever a fragment ends',
        variants(
            *(
                script(*frames, sees(text(data)))
                for data in tried
                for frames in fragmented(data)
            )
        ),
        splits=(WHOLE, BYTES),
        autobahn=case,
    )
    for name, (tried, case) in VALID.items()
]
ROWS += [
    Row(
        f'utf8-{name}',
        '8.1',
        'a text that is not UTF-8 fails',
        variants(
            *(script(text(data), fails(1007)) for data in tried),
            *(
                script(
                    text(NAMES),
                    text(NAMES + data),
                    sees(text(NAMES)),
                    fails(1007),
                )
                for data in tried[:2]
            ),
        ),
        autobahn=case,
    )
    for name, (tried, case) in INVALID.items()
]
ROWS += [
    Row(
        f'utf8-{name}-fragmented',
        '8.1',
        'wherever a fragment ends',
        variants(
            *(
                script(*frames, fails(1007))
                for data in tried
                for frames in fragmented(data)
            )
        ),
        splits=(WHOLE, BYTES),
        autobahn=case,
    )
    for name, (tried, case) in INVALID.items()
]
ROWS += [
    Row(
        f'utf8-{name}-at-once',
        '8.1',
        'it fails at the first byte that can not be, not at the end',
        variants(*(one for data in tried for one in at_once(data))),
        splits=(WHOLE, BYTES),
        autobahn='6.4' if name == 'above-10ffff' else '',
    )
    for name, (tried, _) in INVALID.items()
    if any(impossible_at(data) for data in tried)
]

# --------------------------------------------------------------------- more

ALIGNED = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    15,
    16,
    17,
    23,
    24,
    25,
    30,
    31,
    32,
    33,
]
ALIGNED += [61, 62, 63, 64, 65, 127, 128, 129]

ROWS += [
    Row(
        'utf8-empty-fragments',
        '5.4',
        'a text of empty fragments, and of one that is not',
        variants(
            script(first(), part(), more(), sees(text())),
            script(
                first(),
                part('middle frame payload'),
                more(),
                sees(text('middle frame payload')),
            ),
        ),
        autobahn='6.1',
    ),
    Row(
        'utf8-wherever',
        '8.1',
        'wherever it stands: behind and in front of so many other bytes',
        variants(
            script(
                *(text(b'*' * n + KOSME + b'*' * n) for n in ALIGNED),
                sees(*(text(b'*' * n + KOSME + b'*' * n) for n in ALIGNED)),
            ),
            *(
                script(
                    text(b'*' * before + data + b'*' * (behind)), fails(1007)
                )
                for data in (b'\xff', b'\xed\xa0\x80', b'\xf4\x90\x80\x80')
                for before in ALIGNED
                for behind in (0, 1, 7, 8, 9, 40)
            ),
            *(
                script(text(b'*' * n + KOSME[:-1]), fails(1007))
                for n in ALIGNED
            ),
        ),
        splits=(WHOLE, JOINED),
    ),
    Row(
        'utf8-wherever-at-once',
        '8.1',
        'it fails at once, wherever that is in a long frame',
        variants(
            *(
                script(text(b'*' * n + bad, length=1_000_000), fails(1007))
                for n in (*ALIGNED, 4000, 16383, 16384, 20000, 65536, 300_000)
                for bad in (b'\xff', b'\xc2*', b'\xed\xa0')
            ),
        ),
        splits=(WHOLE,),
        autobahn='6.4.3-6.4.4',
    ),
    Row(
        'utf8-chopped',
        '8.1',
        'a long text in pieces that cut characters',
        variants(
            *(
                script(
                    chopped(size, text('größer €😀'.encode() * 3000)),
                    sees(text('größer €😀'.encode() * 3000)),
                )
                for size in (61, 997, 4001)
            )
        ),
        splits=(WHOLE,),
    ),
    Row(
        'utf8-binary',
        '5.6',
        'binary messages need not be UTF-8',
        script(
            binary(bytes(range(256))),
            first(b'\xff', 2),
            more(b'\xfe'),
            sees(binary(bytes(range(256))), binary(b'\xff\xfe')),
        ),
    ),
]

# ------------------------------------------------------------------ by chance

BYTES_OF_INTEREST = [
    *b'**',
    *(0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xBF, 0x80, 0x80),
    *(0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF),
    *(0xF0, 0xF1, 0xF3, 0xF4, 0xF5),
]
PIECES = ['*', 'ö', '߿', 'ࠀ', '€', '\ud7ff', '\ue000', '😀', '\U0010ffff']


def by_chance(number: int) -> Script:
    chance = random.Random(number)
    if number % 2:
        data = bytes(chance.choices(BYTES_OF_INTEREST, k=4))
    else:
        data = ''.join(chance.choices(PIECES, k=9)).encode()
        at = chance.randrange(len(data))
        data = (
            data[:at]
            + bytes([chance.choice(BYTES_OF_INTEREST)])
            + (data[at + 1 :])
        )
    cut = chance.randrange(len(data) + 1)
    frames = [first(data[:cut]), more(data[cut:])]
    return script(*frames, sees(text(data)) if is_text(data) else fails(1007))


ROWS += [
    Row(
        'utf8-by-chance',
        '8.1',
        '600 texts with a byte that may be wrong',
        variants(*(by_chance(number) for number in range(600))),
        splits=(WHOLE,),
    ),
]
