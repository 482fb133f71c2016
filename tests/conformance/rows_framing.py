"""The frame header (RFC 6455 sections 5.1 to 5.3): lengths, masking, reserved
bits and opcodes."""

from __future__ import annotations

from conformance.roles import End
from conformance.script import (
    Frame,
    binary,
    check_frame,
    chopped,
    fails,
    first,
    frame,
    more,
    part,
    peer_ends,
    ping,
    pong,
    script,
    sees,
    text,
    told,
    variants,
)
from conformance.table import CLIENT, CUTS, JOINED, SERVER, WHOLE, Row
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

KINDS = {'text': TEXT, 'binary': BINARY}
OPCODES = {
    'continuation': CONTINUATION,
    'text': TEXT,
    'binary': BINARY,
    'close': CLOSE,
    'ping': PING,
    'pong': PONG,
}
# Byte by byte, these would take long and tell nothing else.
LONG = (WHOLE, CUTS, JOINED)


def form(length: int) -> str:
    return '7' if length < 126 else '7+16' if length < 65536 else '7+64'


# ------------------------------------------------------------------- lengths

# The cases of Autobahn 1.1 and 1.2 for the lengths that it tries.
CASES = {0: 1, 125: 2, 126: 3, 127: 4, 128: 5, 65535: 6, 65536: 7}

LENGTHS = [
    Row(
        f'length-{length}-{kind}',
        '5.2',
        f'{length} bytes of payload, in {form(length)} bits',
        script(
            frame(opcode, b'*' * length), sees(frame(opcode, b'*' * length))
        ),
        splits=LONG if length > 1000 else (*LONG, 'bytes'),
        autobahn=f'1.{opcode}.{CASES[length]}' if length in CASES else '',
    )
    for kind, opcode in KINDS.items()
    for length in (0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537)
]
LENGTHS += [
    Row(
        f'length-65536-{kind}-chopped',
        '5.2',
        '65536 bytes of payload, in pieces of 997 bytes',
        script(
            chopped(997, frame(opcode, b'*' * 65536)),
            sees(frame(opcode, b'*' * 65536)),
        ),
        splits=(WHOLE,),
        autobahn=f'1.{opcode}.8',
    )
    for kind, opcode in KINDS.items()
]


LENGTHS += [
    Row(
        f'length-{length}-in-{8 * size}-bits',
        '5.2',
        'the length is in its shortest form',
        variants(
            *(
                script(
                    *before,
                    frame(opcode, b'*' * length, length_bytes=size),
                    fails(1002),
                )
                for opcode, before in (
                    (TEXT, []),
                    (BINARY, []),
                    (CONTINUATION, [first('*')]),
                )
            )
        ),
        splits=LONG if length > 1000 else (*LONG, 'bytes'),
    )
    for size, length in (
        (2, 0),
        (2, 1),
        (2, 125),
        (8, 0),
        (8, 125),
        (8, 126),
        (8, 65535),
    )
]
LENGTHS += [
    Row(
        f'length-{name}',
        '5.2',
        'the top bit of a 64-bit length is 0',
        variants(
            script(binary(length=length, length_bytes=8), fails(1002)),
            script(text(length=length, length_bytes=8), fails(1002)),
            # It is the first of 8 bytes, and the others are not needed.
            script(binary(length=length, length_bytes=8, only=3), fails(1002)),
            script(
                first('*'),
                more(length=length, length_bytes=8),
                fails(1002),
            ),
        ),
    )
    for name, length in (
        ('2^63', 1 << 63),
        ('2^63+5', (1 << 63) + 5),
        ('2^64-1', (1 << 64) - 1),
    )
]
LENGTHS += [
    Row(
        'length-2^63-1',
        '5.2',
        'the longest length is a good one, but over our limit',
        variants(
            script(binary(length=(1 << 63) - 1), fails(1009)),
            script(text(length=(1 << 63) - 1), fails(1009)),
            # Summed up, it does not wrap around.
            script(first('*' * 100), more(length=(1 << 63) - 1), fails(1009)),
        ),
    ),
    Row(
        'length-2^63-1-unlimited',
        '5.2',
        'the longest length is a good one: the rest is waited for',
        script(
            binary(b'*' * 40, length=(1 << 63) - 1),
            peer_ends,
            told(1006, by='network'),
        ),
        options={'max_size': None},
    ),
    Row(
        'length-control-16-bits',
        '5.5',
        'the length of a control frame is in 7 bits',
        variants(
            *(
                script(frame(op, payload, length_bytes=size), fails(1002))
                for op, payload in (
                    (PING, b'*'),
                    (PONG, b''),
                    (CLOSE, b'\x03\xe8'),
                )
                for size in (2, 8)
            )
        ),
    ),
]

# ------------------------------------------------------------------- masking


def in_context(
    opcode: int, payload: bytes = b'', **how: object
) -> list[Frame]:
    """A frame where it may be: a continuation after a first fragment."""
    before = [first('*')] if opcode == CONTINUATION else []
    if opcode == CLOSE:
        payload = b'\x03\xe8'
    return [*before, frame(opcode, payload, **how)]


MASKING = [
    Row(
        f'mask-{name}',
        '5.1',
        'frames of a client are masked, those of a server are not',
        variants(
            script(*in_context(opcode, b'**', wrong_mask=True), fails(1002)),
            script(*in_context(opcode, b'', wrong_mask=True), fails(1002)),
            # The second byte says so; no key and no payload is waited for.
            script(
                *in_context(opcode, b'**', wrong_mask=True, only=2),
                fails(1002),
            ),
        ),
    )
    for name, opcode in OPCODES.items()
]
MASKING += [
    Row(
        f'mask-key-{key.hex()}',
        '5.3',
        'any key masks: byte i with byte i mod 4 of it',
        variants(
            *(
                script(
                    binary(bytes(range(length)), key=key),
                    sees(binary(bytes(range(length)))),
                )
                for length in (*range(20), 100, 200)
            ),
            script(
                first('grö', opcode=TEXT),
                ping(b'now', key=key),
                sees(pong(b'now')),
                more('ßer', key=key),
                sees(text('größer')),
            ),
        ),
        roles=(SERVER,),
        why='a server does not mask',
        splits=LONG,
    )
    for key in (
        b'\0\0\0\0',
        b'\xff\xff\xff\xff',
        b'\x01\x02\x03\x04',
        b'\x80\0\0\0',
    )
]


def keys_differ(end: End) -> None:
    end.open()
    keys = []
    for _ in range(300):
        end.send(text('same').pack(end.role))
        got = end.peer.read_frame()
        check_frame(end, got, text('same'))
        keys.append(got.key)
    end.send(ping(b'same').pack(end.role))
    keys.append(end.peer.read_frame().key)
    # One of 2^32 is drawn for each frame: two that are the same by chance are
    # seen once in 100,000 runs, three never.
    assert len(set(keys)) >= len(keys) - 1
    # Each byte of a key is drawn, too.
    for i in range(4):
        assert len({key[i] for key in keys}) > 100


MASKING += [
    Row(
        'mask-key-fresh',
        '5.3',
        'each frame of a client is masked with a new key',
        keys_differ,
        roles=(CLIENT,),
        why='a server does not mask',
        splits=(WHOLE,),
    )
]

# ------------------------------------------------- reserved bits and opcodes

# Which of Autobahn's cases send which of these bits.
RSV_CASES = {
    TEXT: '3.1-3.4',
    BINARY: '3.5',
    PING: '3.6',
    CLOSE: '3.7',
}

RESERVED_BITS = [
    Row(
        f'rsv-{name}',
        '5.2',
        'reserved bits are 0 where no extension gives them a meaning',
        variants(
            *(
                script(*in_context(opcode, payload, rsv=rsv), fails(1002))
                for rsv in range(1, 8)
                for payload in (b'', b'*')
            ),
            # The first byte says so.
            *(
                script(*in_context(opcode, rsv=rsv, only=1), fails(1002))
                for rsv in range(1, 8)
            ),
            # What came before counts.
            script(
                text('before'),
                *in_context(opcode, rsv=2),
                ping(),
                sees(text('before')),
                fails(1002),
            ),
        ),
        autobahn=RSV_CASES.get(opcode, ''),
    )
    for name, opcode in OPCODES.items()
]

DEFLATE = 'permessage-deflate'
RESERVED_BITS += [
    Row(
        f'rsv-{name}-extension',
        '5.2',
        'an extension gives a meaning to its own bits only'
        if opcode in (TEXT, BINARY)
        else 'permessage-deflate marks the first frame of a message only',
        variants(
            *(
                script(
                    *in_context(opcode, b'', rsv=rsv),
                    fails(1002),
                    Sec_WebSocket_Extensions=DEFLATE,
                )
                for rsv in range(1, 8)
                if rsv != 4 or opcode not in (TEXT, BINARY)
            ),
        ),
        options={'compression': 'deflate'},
    )
    for name, opcode in OPCODES.items()
]
RESERVED_BITS += [
    Row(
        'rsv-none-extension',
        '5.2',
        'messages that an extension did not touch pass',
        script(
            text('as it is'),
            first('as '),
            more('it is'),
            sees(text('as it is'), text('as it is')),
            Sec_WebSocket_Extensions=DEFLATE,
        ),
        options={'compression': 'deflate'},
    )
]


def begins_with_opening(end: End) -> None:
    """For each offset: up to there with the end of the opening."""
    data = binary('0123456789' * 13).pack(end.role)
    for cut in (*range(1, 12), len(data) - 1):
        with End(end.harness, end.role, JOINED) as one:
            one.open()
            one.send(data[:cut])
            one.wait_until_read()
            one.send(data[cut:])
            check_frame(one, one.peer.read_frame(), binary('0123456789' * 13))


BEGUN = [
    Row(
        'frame-begun-with-opening',
        '5.2',
        'a frame that begins in one piece with the end of the opening',
        begins_with_opening,
        splits=(WHOLE,),
    )
]

RESERVED_OPCODES = [
    Row(
        f'opcode-{opcode}',
        '5.2',
        f'opcode {opcode:#x} is reserved for '
        + ('control frames' if opcode > 7 else 'data'),
        variants(
            script(frame(opcode), fails(1002)),
            script(frame(opcode, 'reserved payload'), fails(1002)),
            script(frame(opcode, fin=False), fails(1002)),
            script(frame(opcode, only=1), fails(1002)),
            script(
                text('before'),
                frame(opcode),
                ping(),
                sees(text('before')),
                fails(1002),
            ),
            script(
                text('before'),
                sees(text('before')),
                frame(opcode, 'reserved payload'),
                ping(),
                fails(1002),
            ),
            script(first('before'), frame(opcode, '*'), fails(1002)),
            script(first('before'), part(), frame(opcode), fails(1002)),
        ),
        autobahn=(f'4.1.{opcode - 2}' if opcode < 8 else f'4.2.{opcode - 10}'),
    )
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
]

ROWS = [
    *BEGUN,
    *LENGTHS,
    *MASKING,
    *RESERVED_BITS,
    *RESERVED_OPCODES,
]
