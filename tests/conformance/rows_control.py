"""Ping and Pong (RFC 6455 section 5.5)."""

from __future__ import annotations

from contextlib import suppress

from conformance.roles import End
from conformance.script import (
    binary,
    check_form,
    chopped,
    fails,
    ping,
    pong,
    script,
    sees,
    text,
    variants,
    we_ping,
)
from conformance.table import CUTS, JOINED, WHOLE, Row
from rawpeer import PONG

PINGS = [
    Row(
        'ping-empty',
        '5.5.2',
        'a Ping without payload is answered by a Pong without',
        script(ping(), sees(pong())),
        autobahn='2.1',
    ),
    Row(
        'ping-text',
        '5.5.3',
        'a Pong has the payload of its Ping',
        script(ping('Hello, world!'), sees(pong('Hello, world!'))),
        autobahn='2.2',
    ),
    Row(
        'ping-binary',
        '5.5.3',
        'so it has where that is not UTF-8',
        variants(
            *(
                script(ping(data), sees(pong(data)))
                for data in (
                    b'\x00\xff\xfe\xfd\xfc\xfb\x00\xff',
                    bytes(125),
                    b'\xff' * 124,
                )
            )
        ),
        autobahn='2.3',
    ),
    Row(
        'ping-125',
        '5.5',
        'a control frame may have 125 bytes',
        script(ping(b'\xfe' * 125), sees(pong(b'\xfe' * 125))),
        autobahn='2.4, 2.6',
    ),
    *(
        Row(
            f'{name}-{size}',
            '5.5',
            'a control frame has at most 125 bytes',
            variants(
                script(wanted(b'\xfe' * size), fails(1002)),
                # Its length says so.
                script(wanted(b'\xfe' * size, only=2), fails(1002)),
                script(
                    text('before'),
                    wanted(b'\xfe' * size),
                    sees(text('before')),
                    fails(1002),
                ),
            ),
            splits=(WHOLE, CUTS, JOINED),
            autobahn='2.5' if (name, size) == ('ping', 126) else '',
        )
        for name, wanted in (('ping', ping), ('pong', pong))
        for size in (126, 127, 65535, 65536)
    ),
    Row(
        'ping-many',
        '5.5.2',
        'ten Pings are answered, in their order',
        script(
            *(ping(f'payload-{n}') for n in range(10)),
            sees(*(pong(f'payload-{n}') for n in range(10))),
        ),
        autobahn='2.10-2.11',
    ),
    Row(
        'ping-many-chopped',
        '5.5.2',
        'so they are in pieces of a byte which nothing waits between',
        script(
            chopped(1, *(ping(f'payload-{n}') for n in range(10))),
            sees(*(pong(f'payload-{n}') for n in range(10))),
        ),
        splits=(WHOLE,),
        autobahn='2.11',
    ),
    Row(
        'ping-between-messages',
        '5.5.2',
        'Pongs and echoes come in the order of what they answer',
        script(
            text('1'),
            ping('2'),
            binary('3'),
            ping('4'),
            sees(text('1'), pong('2'), binary('3'), pong('4')),
        ),
    ),
]

PONGS = [
    Row(
        'pong-unasked',
        '5.5.3',
        'a Pong that nobody asked for is not answered',
        variants(
            script(pong()),
            script(pong('unsolicited pong payload')),
            script(pong(b'\xff' * 125)),
            script(*(pong(f'payload-{n}') for n in range(10))),
        ),
        autobahn='2.7-2.8',
    ),
    Row(
        'pong-unasked-ping',
        '5.5.3',
        'and a Ping behind it is',
        script(
            pong('unsolicited pong payload'),
            ping('ping payload'),
            sees(pong('ping payload')),
        ),
        autobahn='2.9',
    ),
    Row(
        'ping-ours',
        '5.5.2',
        'a Ping of the program has its payload; its Pong needs no answer',
        variants(
            *(
                script(we_ping(data), sees(ping(data)), pong(data))
                for data in (b'', b'are you there?', b'\xff' * 125)
            ),
            # An answer with something else is as good as an unasked one.
            script(we_ping(b'1'), sees(ping(b'1')), pong(b'2')),
        ),
    ),
]

# ---------------------------------------------------------------- many Pings

FLOOD = 40_000


def flood(end: End) -> None:
    """A peer that sends Pings and reads nothing: each is answered in the end,
    or those that a later Pong stands for are not; section 5.5.3 leaves it."""
    end.open()
    payloads = [b'%0125d' % number for number in range(FLOOD)]
    data = b''.join(ping(payload).pack(end.role) for payload in payloads)
    view = memoryview(data)
    sock = end.peer.sock
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while view:
            view = view[sock.send(view) :]
    sock.settimeout(10)
    # Our end may stop reading, until what it sent is read. The rest goes out
    # while Pongs come in.
    end.run(lambda: sock.sendall(view))
    number = -1
    while number < FLOOD - 1:
        got = end.peer.read_frame()
        assert got.opcode == PONG, got
        check_form(end, got)
        assert number < int(got.payload) < FLOOD, 'Pongs keep their order'
        assert payloads[int(got.payload)] == got.payload
        number = int(got.payload)
    end.send(text('and now?').pack(end.role))
    assert end.peer.read_frame().payload == b'and now?'


FLOODS = [
    Row(
        'ping-flood',
        '5.5.3',
        'Pings of a peer that does not read are answered once it does',
        flood,
        splits=(WHOLE,),
    ),
]

ROWS = [*PINGS, *PONGS, *FLOODS]
