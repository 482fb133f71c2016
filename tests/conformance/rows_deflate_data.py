"""Compressed messages (RFC 7692 sections 6 and 7.2): what our end reads, and
what it sends."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from conformance.compressed import (
    DEFLATE,
    MESSAGE,
    PLAIN,
    Exchange,
    Terms,
    packed,
    small,
    squeezed,
    talks,
)
from conformance.script import (
    Frame,
    binary,
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
from conformance.table import CLIENT, CUTS, JOINED, SERVER, WHOLE, Row
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from zlibends import RSV1

from twspy import DeflateMessage

SHORT = (WHOLE, JOINED)
RSV2, RSV3 = 2, 1
OF_6455 = ('5.2', '5.4', '8.1')

HELLO = b'\xf2\x48\xcd\xc9\xc9\x07\x00'  # of section 7.2.3.1
AGAIN = b'\xf2\x00\x11\x00\x00'  # of section 7.2.3.2: it refers to that one
PROSE = 'Träume sind Schäume. ' * 200
NOISE = bytes(range(256)) * 3


def row(
    id: str,
    section: str,
    requirement: str,
    run: object,
    **more: object,
) -> Row:
    given: dict[str, object] = {'options': DEFLATE, 'echo': PLAIN} | more
    if section in OF_6455:
        return Row(id, section, requirement, run, **given)  # type: ignore[arg-type]
    return Row(id, f'RFC 7692 {section}', requirement, run, **given)  # type: ignore[arg-type]


def one(payload: bytes, opcode: int = TEXT) -> Frame:
    return frame(opcode, payload, rsv=RSV1)


def flushed(data: bytes, kind: int) -> bytes:
    """By many flushes of a kind, and what each message ends with."""
    made = zlib.compressobj(wbits=-15)
    out = b''
    for start in range(0, len(data), 100):
        out += made.compress(data[start : start + 100]) + made.flush(kind)
    return (out + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


def finished(data: bytes) -> bytes:
    """With BFINAL."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


# ------------------------------------------------------- the examples, blocks

BLOCKS = [
    row(
        'deflate-example-one-block',
        '7.2.3.1',
        'a message of one compressed block',
        variants(
            talks(one(HELLO), sees(text('Hello'))),
            talks(
                frame(TEXT, HELLO[:3], fin=False, rsv=RSV1),
                more(HELLO[3:]),
                sees(text('Hello')),
            ),
        ),
    ),
    row(
        'deflate-example-window',
        '7.2.3.2',
        'a message refers to the one before',
        talks(
            one(HELLO),
            one(AGAIN),
            one(AGAIN),
            sees(text('Hello'), text('Hello'), text('Hello')),
        ),
    ),
    row(
        'deflate-example-stored',
        '7.2.3.3',
        'a block without compression',
        talks(one(b'\x00\x05\x00\xfa\xffHello\x00'), sees(text('Hello'))),
    ),
    row(
        'deflate-example-last-block',
        '7.2.3.4',
        'a block with BFINAL, and messages behind it',
        talks(
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00\x00'),
            one(AGAIN),
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00\x00'),
            sees(text('Hello'), text('Hello'), text('Hello')),
        ),
    ),
    row(
        'deflate-last-block-bare',
        '7.2.3.4',
        'so it is without the byte of the block behind it',
        talks(
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00'),
            one(HELLO),
            sees(text('Hello'), text('Hello')),
        ),
    ),
    row(
        'deflate-last-blocks-many',
        '7.2.3.4',
        'blocks may go on behind one with BFINAL',
        talks(
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00' * 3 + b'\x00'),
            one(HELLO),
            sees(text('Hello' * 3), text('Hello')),
        ),
    ),
    row(
        'deflate-example-two-blocks',
        '7.2.3.5',
        'two blocks in a message',
        talks(
            one(b'\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00'),
            sees(text('Hello')),
        ),
    ),
    row(
        'deflate-example-empty',
        '7.2.3.6',
        'an empty message is one byte',
        talks(
            one(HELLO),
            one(b'\x00'),
            one(AGAIN),
            one(b'\x00', BINARY),
            sees(text('Hello'), text(), text('Hello'), binary()),
        ),
    ),
    row(
        'deflate-empty-otherwise',
        '7.2.3.6',
        'or another empty block, several, or none',
        variants(
            *(
                talks(
                    one(HELLO),
                    one(empty),
                    one(AGAIN),
                    sees(text('Hello'), text(), text('Hello')),
                )
                for empty in (
                    b'\x02\x00',
                    b'\x00\x00\x00\xff\xff\x00',
                    b'\x02\x00\x00\x00\xff\xff\x00',
                    b'\x01',
                    b'\x03\x00\x00',
                    b'\x01\x00\x00\xff\xff\x00',
                    b'\x00\x00\x00\xff\xff' * 50 + b'\x00',
                )
            )
        ),
        splits=SHORT,
    ),
    row(
        'deflate-empty-of-no-bytes',
        '7.2.3.6',
        'others send no byte at all: it is empty, too',
        talks(
            one(b''),
            one(HELLO),
            one(b''),
            one(AGAIN),
            frame(BINARY, b'', fin=False, rsv=RSV1),
            part(),
            more(),
            one(AGAIN),
            sees(
                text(),
                text('Hello'),
                text(),
                text('Hello'),
                binary(),
                text('Hello'),
            ),
        ),
    ),
    *(
        row(
            f'deflate-made-{name}',
            '7.2.1',
            f'messages made with {name}',
            talks(
                *packed(PROSE, **how),
                *packed(NOISE, **how),
                *packed('', **how),
                *packed('x', **how),
                *packed(PROSE, 700, **how),
                sees(
                    text(PROSE), binary(NOISE), text(), text('x'), text(PROSE)
                ),
            ),
            splits=SHORT,
        )
        for name, how in (
            ('stored-blocks', {'level': 0}),
            ('level-1', {'level': 1}),
            ('level-9', {'level': 9}),
            ('fixed-codes', {'strategy': zlib.Z_FIXED}),
            ('huffman-only', {'strategy': zlib.Z_HUFFMAN_ONLY}),
            ('runs', {'strategy': zlib.Z_RLE}),
            ('filtered', {'strategy': zlib.Z_FILTERED}),
            ('small-blocks', {'memLevel': 1}),
            ('large-blocks', {'memLevel': 9}),
            *((f'{bits}-bits', {'wbits': -bits}) for bits in range(9, 16)),
        )
    ),
    row(
        'deflate-flushes',
        '7.2.1',
        'a message of many blocks, by flushes of each kind',
        variants(
            *(
                talks(
                    *small(flushed(PROSE.encode(), kind)),
                    sees(text(PROSE)),
                )
                for kind in (
                    zlib.Z_SYNC_FLUSH,
                    zlib.Z_FULL_FLUSH,
                    zlib.Z_PARTIAL_FLUSH,
                    zlib.Z_BLOCK,
                )
            )
        ),
        splits=SHORT,
    ),
    row(
        'deflate-finished',
        '7.2.3.4',
        'a stream that ends in each message, with and without a byte more',
        variants(
            *(
                talks(
                    one(finished(PROSE.encode()) + tail),
                    one(finished(b'Hello') + tail),
                    one(HELLO),
                    one(AGAIN),
                    sees(text(PROSE), *[text('Hello')] * 3),
                )
                for tail in (b'', b'\x00')
            )
        ),
        splits=SHORT,
    ),
]


# --------------------------------------------------- bits, fragments, controls

HALVES = [
    frame(TEXT, HELLO[:4], fin=False, rsv=RSV1),
    more(HELLO[4:]),
]
BITS = [
    row(
        'deflate-mixed',
        '6.1',
        'messages without RSV1 are not compressed, and touch no window',
        talks(
            one(HELLO),
            text('plain'),
            binary(HELLO),
            first('pla'),
            more('in'),
            one(AGAIN),
            sees(
                text('Hello'),
                text('plain'),
                binary(HELLO),
                text('plain'),
                text('Hello'),
            ),
        ),
    ),
    row(
        'deflate-rsv1-continuation',
        '6.1',
        'RSV1 on another frame than the first is 1002',
        variants(
            talks(HALVES[0], more(HELLO[4:], rsv=RSV1), fails(1002)),
            talks(HALVES[0], more(b'', fin=False, rsv=RSV1), fails(1002)),
            talks(first('x'), more(HELLO, rsv=RSV1), fails(1002)),
        ),
    ),
    row(
        'deflate-rsv1-control',
        '6',
        'RSV1 on a control frame is 1002',
        variants(
            *(
                talks(*before, frame(opcode, payload, rsv=RSV1), fails(1002))
                for opcode in (PING, PONG, CLOSE)
                for payload in (b'', squeezed(b'\x03\xe8'))
                for before in ([], [HALVES[0]])
            )
        ),
        splits=(WHOLE, CUTS),
    ),
    row(
        'deflate-rsv-others',
        '5.2',
        'RSV2 and RSV3 are 1002 as ever',
        variants(
            *(
                talks(frame(opcode, HELLO, rsv=rsv), fails(1002))
                for opcode in (TEXT, BINARY, PING, CLOSE)
                for rsv in (RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3, 7)
            )
        ),
        splits=(WHOLE,),
    ),
    Row(
        'deflate-not-agreed',
        '5.2',
        'RSV1 without the extension is 1002',
        variants(
            *(
                script(*before, frame(opcode, HELLO, rsv=RSV1), fails(1002))
                for opcode, before in (
                    (TEXT, []),
                    (BINARY, []),
                    (CONTINUATION, [first('x')]),
                    (PING, []),
                    (CLOSE, []),
                )
            )
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-not-offered',
        '5.1',
        'so it is where the peer has not offered it, or not agreed',
        variants(script(one(HELLO), fails(1002))),
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-fragments',
        '6.2',
        'a compressed message in frames of every size',
        variants(
            *(
                talks(
                    *small(squeezed(PROSE), TEXT, size),
                    one(HELLO),
                    sees(text(PROSE), text('Hello')),
                )
                for size in (1, 2, 3, 7, 125, 126)
            )
        ),
        splits=SHORT,
    ),
    row(
        'deflate-fragments-empty',
        '6.2',
        'frames of it may be empty, the first and the last, too',
        variants(
            talks(
                frame(TEXT, b'', fin=False, rsv=RSV1),
                part(),
                part(HELLO[:3]),
                part(),
                part(HELLO[3:]),
                more(),
                one(AGAIN),
                sees(text('Hello'), text('Hello')),
            )
        ),
    ),
    row(
        'deflate-control-between',
        '6.1',
        'control frames pass between its frames, and are not compressed',
        talks(
            HALVES[0],
            ping('now?'),
            pong('x'),
            ping(HELLO),
            HALVES[1],
            one(AGAIN),
            sees(pong('now?'), pong(HELLO), text('Hello'), text('Hello')),
        ),
    ),
    row(
        'deflate-close-between',
        '6.1',
        'a Close within a message is answered',
        talks(HALVES[0], close(1000, 'bye'), closes(1000, 'bye')),
    ),
    row(
        'deflate-message-within',
        '5.4',
        'another message may not begin within it',
        variants(
            talks(HALVES[0], text('x'), fails(1002)),
            talks(HALVES[0], one(HELLO), fails(1002)),
            talks(one(HELLO), more(HELLO), sees(text('Hello')), fails(1002)),
        ),
    ),
]

# ----------------------------------------------------------------- what fails

BROKEN = {
    'a block of the reserved type': b'\x07\x00',
    'all ones': b'\xff' * 20,
    'no deflate at all': b'Hello, world',
    'a zlib head': zlib.compress(b'Hello'),
    'a gzip head': zlib.compress(b'Hello', wbits=31),
    'a stored block of another length': b'\x00\x05\x00\xfb\xffHello\x00',
    'a stored block that is cut off': b'\x00\x0a\x00\xf5\xffHello',
    'a block that is cut off': HELLO[:4],
    'a block cut off by a bit': HELLO[:-1],
    'codes cut off': squeezed(PROSE)[:20],
    'a long message cut off': squeezed(PROSE)[:-3],
    'a byte behind the end': HELLO + b'\x01',
    'the tail twice, and a byte': HELLO + b'\x00\x00\xff\xff\x07',
    'what refers to nothing': AGAIN,
    'too many codes': b'\x05\xe0\xff',
    'bytes behind a last block': b'\xf3\x48\xcd\xc9\xc9\x07\x00\x00\x00',
}
BAD_TEXT = [
    b'\xff',
    b'caf\xe9',
    'Träume'.encode()[:3],
    b'\xc0\xaf',
    b'\xed\xa0\x80',
    b'\xf4\x90\x80\x80',
    b'x' * 100_000 + b'\xc3',
    b'\x80' + b'x' * 100_000,
]
FAILURES = [
    *(
        row(
            'deflate-broken-' + name.replace(' ', '-'),
            '7.2.2',
            f'{name} is 1007',
            variants(
                talks(one(data, BINARY), fails(1007)),
                talks(
                    text('before'),
                    *small(data, BINARY, 2),
                    sees(text('before')),
                    fails(1007),
                ),
            ),
            splits=(WHOLE, JOINED, 'bytes'),
        )
        for name, data in BROKEN.items()
    ),
    row(
        'deflate-broken-later',
        '7.2.2',
        'what is broken behind good messages is 1007, and they are echoed',
        talks(
            one(HELLO),
            one(AGAIN),
            one(b'\x07\x00'),
            sees(text('Hello'), text('Hello')),
            fails(1007),
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-utf8',
        '7.2.2',
        'text is UTF-8 once it is inflated, or 1007',
        variants(
            *(talks(one(squeezed(data)), fails(1007)) for data in BAD_TEXT),
            *(
                talks(*small(squeezed(data), TEXT, 3), fails(1007))
                for data in BAD_TEXT[:-2]
            ),
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-utf8-fast',
        '8.1',
        'text that is wrong is 1007 before its end has come',
        talks(
            frame(TEXT, squeezed(b'caf\xe9 and more'), fin=False, rsv=RSV1),
            fails(1007),
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-utf8-looks-wrong',
        '7.2.2',
        'what is compressed need not look like UTF-8',
        talks(
            one(HELLO),
            *packed('é€🌍' * 50, 3),
            *packed(b'\xff\xfe\xfd'),
            sees(text('Hello'), text('é€🌍' * 50), binary(b'\xff\xfe\xfd')),
        ),
    ),
]

# --------------------------------------------------------------------- limits

LIMIT = 4096
LIMITED = DEFLATE | {'max_size': LIMIT}
MIB = 1 << 20


def bomb(size: int) -> bytes:
    return squeezed(bytes(size))


LIMITS = [
    row(
        'deflate-limit',
        '9',
        'the limit of a message is that of what is inflated',
        talks(
            *packed(bytes(LIMIT)),
            *packed('x' * LIMIT, 3),
            *packed(NOISE),
            # What is compressed may be larger, a bit.
            one(squeezed('y' * LIMIT, level=0)),
            sees(
                binary(bytes(LIMIT)),
                text('x' * LIMIT),
                binary(NOISE),
                text('y' * LIMIT),
            ),
        ),
        options=LIMITED,
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-limit-more',
        '9',
        'a byte more is 1009, in one frame or several',
        variants(
            talks(*packed(bytes(LIMIT + 1)), fails(1009)),
            talks(*packed('x' * (LIMIT + 1)), fails(1009)),
            talks(*packed(bytes(LIMIT + 1), 5), fails(1009)),
            talks(*packed('x' * (LIMIT + 1), level=0), fails(1009)),
            talks(
                *packed(bytes(LIMIT)),
                *packed(bytes(LIMIT + 1)),
                sees(binary(bytes(LIMIT))),
                fails(1009),
            ),
        ),
        options=LIMITED,
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-limit-without-end',
        '9',
        'it is so before the message has ended',
        variants(
            talks(
                frame(BINARY, bomb(LIMIT + 100), fin=False, rsv=RSV1),
                fails(1009),
            ),
        ),
        options=LIMITED,
        splits=(WHOLE, JOINED),
    ),
    row(
        'deflate-limit-packed',
        '9',
        'data that makes nothing has a limit, too, seen by the header',
        variants(
            talks(one(b'\x00\x00\x00\xff\xff' * 4096 + b'\x00'), fails(1009)),
            talks(
                frame(BINARY, rsv=RSV1, length=1 << 40, length_bytes=8),
                fails(1009),
            ),
            talks(
                *small(b'\x00\x00\x00\xff\xff' * 4096, BINARY, 512),
                fails(1009),
            ),
        ),
        options=LIMITED,
        splits=(WHOLE,),
    ),
    row(
        'deflate-bomb',
        '9',
        'a bomb of 1000:1 is 1009, in one frame or several',
        variants(
            talks(*packed(bytes(64 * MIB)), fails(1009)),
            talks(*packed(bytes(16 * MIB), 1000), fails(1009)),
            talks(
                frame(BINARY, bomb(16 * MIB), fin=False, rsv=RSV1), fails(1009)
            ),
        ),
        splits=(WHOLE,),
    ),
]

# ---------------------------------------------------------------------- terms

# A peer's window of 15 bits that is used: what is repeated is far away.
FAR = squeezed(NOISE[:256] + bytes(2000) + NOISE[:256])
# With what our client must have offered, to be told any of these.
WISHING = {'compression': DeflateMessage(client_max_window_bits=True)}

TALK = [
    'Hello',
    PROSE,
    '',
    PROSE,
    NOISE,
    'x' * 70_000,
    NOISE * 40,
    b'',
    PROSE[1:],
    'é€🌍' * 9,
]
COMBINED = [
    Row(
        'deflate-terms-'
        + '-'.join(
            [
                str(terms.our_bits) + ('' if terms.our_takeover else 'x'),
                str(terms.their_bits) + ('' if terms.their_takeover else 'x'),
            ]
        ),
        'RFC 7692 7.1',
        f'our end sends with {terms.our_bits} bits'
        + (' and its window' if terms.our_takeover else ' each message anew')
        + f', the peer with {terms.their_bits}'
        + (' and its window' if terms.their_takeover else ' each anew'),
        Exchange(terms, TALK, size, {CLIENT: WISHING}),
        splits=(WHOLE,),
        options=DEFLATE,
    )
    for terms, size in (
        (Terms(our, their, own, other), 0 if own else 200)
        for our in (8, 9, 12, 15)
        for their in (8, 9, 12, 15)
        for own in (True, False)
        for other in (True, False)
    )
]


def rows_of_role(
    name: str,
    section: str,
    requirement: str,
    make: Callable[[str], object],
    **more: object,
) -> list[Row]:
    """A row for each role, as parameters have a name for each."""
    return [
        row(
            f'{name}-{role}',
            section,
            requirement,
            make('client' if role == SERVER else 'server'),
            roles=(role,),
            why='parameters are of one role',
            **more,
        )
        for role in (SERVER, CLIENT)
    ]


TERMS = [
    *COMBINED,
    *rows_of_role(
        'deflate-no-context',
        '7.1.1',
        'a peer that has said it begins anew may not refer back: 1007',
        lambda peer: talks(
            one(HELLO),
            one(HELLO),
            one(AGAIN),
            sees(text('Hello'), text('Hello')),
            fails(1007),
            extension=f'{MESSAGE}; {peer}_no_context_takeover',
        ),
        splits=(WHOLE, JOINED),
    ),
    *rows_of_role(
        'deflate-no-context-last',
        '7.1.1',
        'and may end each message with BFINAL, or with none',
        lambda peer: talks(
            *[one(finished(PROSE.encode()) + b'\x00')] * 2,
            *[one(finished(PROSE.encode()))] * 2,
            one(HELLO),
            one(b''),
            one(HELLO),
            sees(*[text(PROSE)] * 4, text('Hello'), text(), text('Hello')),
            extension=f'{MESSAGE}; {peer}_no_context_takeover',
        ),
        splits=(WHOLE, JOINED),
    ),
    *rows_of_role(
        'deflate-window-too-large',
        '7.1.2',
        'a peer that has said it has 512 bytes may not refer further: 1007',
        lambda peer: talks(
            *small(FAR, BINARY),
            fails(1007),
            extension=f'{MESSAGE}; {peer}_max_window_bits=9',
        ),
        splits=(WHOLE, JOINED),
    ),
]

ROWS = [*BLOCKS, *BITS, *FAILURES, *LIMITS, *TERMS]
