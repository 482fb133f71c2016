"""Heads of requests and answers, byte by byte (RFC 9112 sections 2 to 5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from conformance.opening import (
    Opened,
    Welcomed,
    answer_row,
    ask,
    opened,
    refused,
    rejected,
    reply,
    request_row,
    send_in_pieces,
    welcomed,
)
from conformance.roles import End
from conformance.script import check_form, close, ping, text
from conformance.table import CLIENT, SERVER, WHOLE, Row
from rawpeer import CLOSE, TEXT, accept_key, read_request

# What no line may hold: controls, but for HTAB (RFC 9110 section 5.5).
CONTROLS = [chr(c) for c in (*range(9), 10, 11, 12, *range(13, 32), 127)]
# What a name may hold (RFC 9110 section 5.6.2).
TCHARS = "!#$%&'*+-.^_`|~" + ''.join(
    chr(c) for c in range(128) if chr(c).isalnum()
)
# ':' ends a name.
NO_TCHARS = [chr(c) for c in range(256) if chr(c) not in TCHARS + ':']


def both(
    name: str,
    section: str,
    requirement: str,
    heads: Callable[[Callable[..., bytes]], list[bytes]],
    good: bool = False,
    **more: object,
) -> list[Row]:
    """A row for each role, about what requests and answers have in common."""
    if good:
        return [
            request_row(
                f'head-{name}',
                section,
                requirement,
                welcomed(*heads(ask)),
                **more,
            ),
            answer_row(
                f'answer-head-{name}',
                section,
                requirement,
                opened(*heads(reply)),
                **more,
            ),
        ]
    return [
        request_row(
            f'head-{name}',
            section,
            f'{requirement}: 400',
            refused(400, *heads(ask)),
            **more,
        ),
        answer_row(
            f'answer-head-{name}',
            section,
            f'{requirement}: the client fails',
            rejected(None, '', *heads(reply)),
            **more,
        ),
    ]


LINES = [
    *both(
        'bare-lf',
        'RFC 9112 2.2',
        'lines end in CRLF, not in LF',
        lambda make: [
            make().replace(b'\r\n', b'\n'),
            make().replace(b'\r\n', b'\n', 1),
            make('+X: y')[:-4] + b'\n\r\n',
            make('+X: y')[:-4] + b'\r\n\n',
            make('+X: y\nZ: z'),
            b'\n' + make(),
        ],
    ),
    *both(
        'bare-cr',
        'RFC 9112 2.2',
        'a CR without LF ends nothing',
        lambda make: [
            make('+X: y\rz'),
            make('+X: y\r'),
            make('+X: y')[:-4] + b'\r\r\n\r\n',
            make('+X: y')[:-2] + b'\r\r\n',
            make().replace(b'\r\n', b'\r'),
            make().replace(b'\r\n', b'\r\r\n', 1),
        ],
    ),
    *both(
        'empty-line-first',
        'RFC 9112 2.2',
        'a head begins with its start line',
        lambda make: [b'\r\n' + make(), b' ' + make(), b'\t' + make()],
    ),
    *both(
        'fold',
        'RFC 9112 5.2',
        'no line goes on with another (obs-fold)',
        lambda make: [
            make('+X: y\r\n z'),
            make('+X: y\r\n\tz'),
            make('+X:\r\n y'),
            make('Upgrade: \r\n websocket'),
            make('+X: y\r\n '),
            # Nor is white space skipped behind the start line.
            make('+X: y').replace(b'\r\n', b'\r\n ', 1),
        ],
    ),
    *both(
        'space-before-colon',
        'RFC 9112 5.1',
        'no white space stands before a colon',
        lambda make: [
            make('Upgrade : websocket'),
            make('Connection\t: Upgrade'),
            make('+X : y'),
            make('+ : y'),
        ],
    ),
    *both(
        'no-colon',
        'RFC 9112 5',
        'a field has a name and a colon',
        lambda make: [
            make('+X'),
            make('+: y'),
            make('+:'),
            make('+X Y: z'),
            make('+X;Y'),
        ],
    ),
    *both(
        'control',
        'RFC 9110 5.5',
        'values hold no control characters',
        lambda make: [
            make(f'+X: {value}') for c in CONTROLS for value in (f'a{c}b', c)
        ],
        splits=(WHOLE,),
    ),
    *both(
        'name',
        'RFC 9110 5.1',
        'names are tokens',
        lambda make: [make(f'+X{c}Y: z') for c in NO_TCHARS],
        splits=(WHOLE,),
    ),
    *both(
        'nul',
        'RFC 9110 5.5',
        'NUL stands nowhere',
        lambda make: [
            make('+X: y\0'),
            make('+X: \0y'),
            make('+\0: y'),
            make('+X\0: y'),
            make('Upgrade: websocket\0'),
            make('Connection: Upgrade\0, close'),
            make()[:-2] + b'\0\r\n',
        ],
    ),
    *both(
        'tchar',
        'RFC 9110 5.6.2',
        'all the characters of a token are good for a name',
        lambda make: [
            make(f'+{TCHARS}: y'),
            *[make(f'+{c}: y') for c in "!'*~"],
        ],
        good=True,
    ),
    *both(
        'value',
        'RFC 9110 5.5',
        'values may hold HTAB, all that is visible and 0x80-0xff',
        lambda make: [
            make('+X: a\tb c  d'),
            make('+X:'),
            make('+X: \t '),
            make('+X: ' + ''.join(map(chr, range(0x20, 0x7F)))),
            make('+X: ' + ''.join(map(chr, range(0x80, 0x100)))),
            make('+X: caf\xc3\xa9'),
            make('+X: a:b: c'),
        ],
        good=True,
    ),
]

STARTS = [
    request_row(
        'head-request-line',
        'RFC 9112 3',
        'a request line is three words with a space between: 400',
        refused(
            400,
            *(
                ask(start=start)
                for start in (
                    'GET',
                    'GET ',
                    'GET /',
                    'GET / ',
                    'GET  / HTTP/1.1',
                    'GET /  HTTP/1.1',
                    'GET\t/\tHTTP/1.1',
                    'GET\t/ HTTP/1.1',
                    'GET /\tHTTP/1.1',
                    'GET/HTTP/1.1',
                    'GET / HTTP/1.1\t',
                    'GET / / HTTP/1.1',
                    'GE\0T / HTTP/1.1',
                    'GET /\0 HTTP/1.1',
                    'G(T / HTTP/1.1',
                    'G\xc9T / HTTP/1.1',
                    '/ GET HTTP/1.1',
                    'HTTP/1.1 200 OK',
                    'hello',
                    'GET /\x0b HTTP/1.1',
                    'GET / HTTP/1.1\x0b',
                    'GET / HTTP/1.1\x85',
                )
            ),
            # Other protocols at the same port.
            b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
            b'SSH-2.0-OpenSSH_9.2\r\n\r\n',
            b'\x05\x01\x00',
            b'\0',
        ),
    ),
    request_row(
        'head-request-http-2',
        'RFC 9110 15.6.6',
        'the preface of HTTP/2 is 505',
        refused(505, b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    ),
    request_row(
        'head-request-control-in-start',
        'RFC 9110 5.5',
        'a request line holds no control characters: 400',
        refused(
            400, *(ask(start=f'GET /{c} HTTP/1.1') for c in [*CONTROLS, '\t'])
        ),
        splits=(WHOLE,),
    ),
    request_row(
        'head-request-high-bytes',
        'RFC 9112 3.2',
        'a target is ASCII: 400',
        refused(
            400,
            *(ask(start=f'GET /{chr(c)} HTTP/1.1') for c in range(128, 256)),
        ),
        splits=(WHOLE,),
    ),
    *(
        request_row(
            f'head-high-bytes-{name.lower()}',
            'RFC 9110 5.5',
            f'bytes 0x80-0xff in {name}: {status}',
            refused(
                status,
                *(ask(edit.format(chr(c))) for c in range(0x80, 0x100)),
            ),
            splits=(WHOLE,),
        )
        for name, edit, status in (
            ('Host', 'Host: a{}b', 400),
            ('Upgrade', 'Upgrade: websocket{}', 426),
            ('Connection', 'Connection: {}Upgrade', 400),
            (
                'Sec-WebSocket-Key',
                'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ{}==',
                400,
            ),
            ('Sec-WebSocket-Version', 'Sec-WebSocket-Version: 13{}', 426),
            ('Sec-WebSocket-Protocol', '+Sec-WebSocket-Protocol: a{}', 400),
            (
                'Sec-WebSocket-Extensions',
                '+Sec-WebSocket-Extensions: a{}',
                400,
            ),
            ('Content-Length', '+Content-Length: 0{}', 400),
            ('Transfer-Encoding', '+Transfer-Encoding: {}', 400),
        )
    ),
]

# -------------------------------------------------------------------- limits

SMALL = {'max_head_size': 400, 'max_header_lines': 8}
DEFAULT_SIZE, DEFAULT_LINES = 16384, 128


def sized(
    make: Callable[..., bytes], size: int, end: bytes = b'\r\n\r\n'
) -> bytes:
    """A head of so many bytes, its end included; '{accept}' has 8 bytes and
    stands for 28."""
    less = 20 if make is reply else 0
    bare = len(make('+X: ')) - 4 + less
    return make('+X: ' + 'y' * (size - bare - len(end)))[:-4] + end


def lined(make: Callable[..., bytes], count: int) -> bytes:
    """A head of so many field lines."""
    have = make().count(b'\r\n') - 2
    return make(*(f'+X{n}:' for n in range(count - have)))


LIMITS = [
    row
    for name, options, size, lines, splits in (
        ('small', SMALL, 400, 8, None),
        ('default', {}, DEFAULT_SIZE, DEFAULT_LINES, (WHOLE,)),
    )
    for more in [{'options': options} | ({'splits': splits} if splits else {})]
    for row in (
        request_row(
            f'head-limit-{name}',
            'RFC 9112 2.3',
            'a head may be as large as its limits',
            welcomed(sized(ask, size), lined(ask, lines)),
            **more,
        ),
        request_row(
            f'head-limit-{name}-bytes',
            'RFC 6585 5',
            'a byte more is 431, seen without the end',
            refused(
                431,
                sized(ask, size + 1),
                sized(ask, size, b'')[:size],
                b'G' * size,
                b'GET /' + b'a' * size,
                ask(f'+{"X" * size}: y'),
            ),
            **more,
        ),
        request_row(
            f'head-limit-{name}-lines',
            'RFC 6585 5',
            'a line more is 431',
            refused(431, lined(ask, lines + 1), lined(ask, lines + 1)[:-2]),
            **more,
        ),
        answer_row(
            f'answer-head-limit-{name}',
            'RFC 9112 2.3',
            'a head may be as large as its limits',
            opened(sized(reply, size), lined(reply, lines)),
            **more,
        ),
        answer_row(
            f'answer-head-limit-{name}-more',
            'RFC 9112 2.3',
            'no byte and no line more: the client fails without the end',
            rejected(
                None,
                'limit',
                sized(reply, size + 1),
                sized(reply, size, b'')[:size],
                b'HTTP/1.1 101 ' + b'y' * size,
                lined(reply, lines + 1),
                lined(reply, lines + 1)[:-2],
                ends=False,
            ),
            **more,
        ),
    )
]

# -------------------------------------------------------------- how it comes


def head_in_two(end: End) -> None:
    """Cut at each offset: one connection each."""
    if end.role == SERVER:
        request = ask(behind=text('early').pack(SERVER))
        for cut in range(1, len(request)):
            with again(end) as one:
                one.connect()
                send_in_pieces(one.peer, (request[:cut], request[cut:]))
                check_early(one, Welcomed())
        return
    size = len(reply(behind=text('early').pack(CLIENT))) + 20
    for cut in range(1, size):
        with again(end) as one:
            one.connect()
            _, head = read_request(one.peer)
            data = reply().replace(b'{accept}', accept_key(head).encode())
            data += text('early').pack(CLIENT)
            assert len(data) == size
            send_in_pieces(one.peer, (data[:cut], data[cut:]))
            check_early(one, Opened())


def again(end: End) -> End:
    return End(end.harness, end.role, end.split, None, end.options)


def check_early(end: End, check: Callable[[End], None]) -> None:
    """The message behind the head is echoed before what check() sends."""
    if end.role == SERVER:
        status, _ = end.peer.read_head()
        assert status == 101
    got = end.peer.read_frame()
    assert (got.opcode, got.payload) == (TEXT, b'early'), got
    check_form(end, got)


def early(end: End) -> None:
    """Frames in one piece with the head."""
    frames = [text('1'), ping('2'), text('3')]
    behind = b''.join(frame.pack(end.role) for frame in frames)
    send_opening(end, behind)
    for opcode, payload in ((TEXT, b'1'), (10, b'2'), (TEXT, b'3')):
        got = end.peer.read_frame()
        assert (got.opcode, got.payload) == (opcode, payload), got
        check_form(end, got)


def send_opening(end: End, behind: bytes) -> None:
    end.connect()
    if end.role == SERVER:
        end.peer.send(ask(behind=behind))
        status, _ = end.peer.read_head()
        assert status == 101
    else:
        _, head = read_request(end.peer)
        data = reply().replace(b'{accept}', accept_key(head).encode())
        end.peer.send(data + behind)


def early_and_wrong(end: End) -> None:
    """What is behind the head is framing, whatever it looks like."""
    wrong = [
        text('x', wrong_mask=True).pack(end.role),
        ask() if end.role == SERVER else reply(),
        b'\r\n' * 8,
    ]
    for behind in wrong:
        with again(end) as one:
            send_opening(one, behind)
            got = one.peer.read_frame()
            assert (got.opcode, got.close_code) == (CLOSE, 1002), got
            check_form(one, got)


def early_close(end: End) -> None:
    """A closing handshake in one piece with the opening."""
    send_opening(end, close(1000, 'bye').pack(end.role))
    got = end.peer.read_frame()
    assert (got.opcode, got.close_code) == (CLOSE, 1000), got
    if end.role != SERVER:
        end.peer.end()
    end.peer.expect_end()
    assert (end.told().code, end.told().reason) == (1000, 'bye')


def vanishes(end: End) -> None:
    """The peer ends, or resets, within the head: nothing is opened, and our
    client says so."""
    data = ask() if end.role == SERVER else reply()
    for size in range(0, len(data), 9):
        with again(end) as one:
            one.connect()
            with suppress(BrokenPipeError, ConnectionResetError):
                send_in_pieces(one.peer, [data[:size]] if size else [])
                if size % 2:
                    one.peer.reset()
                else:
                    one.peer.end()
            if end.role == CLIENT:
                one.join()
                assert isinstance(one.failure, (EOFError, OSError)), repr(
                    one.failure
                )
            assert not one.program.opened.is_set()


ARRIVALS = [
    Row(
        'head-in-two',
        'RFC 9112 2.2',
        'a head comes in two pieces, cut at each offset',
        head_in_two,
        splits=(WHOLE,),
    ),
    Row(
        'head-and-frames',
        '4.1',
        'frames in one piece with the head are taken',
        early,
        splits=(WHOLE,),
    ),
    Row(
        'head-and-wrong-frames',
        '5.2',
        'what is behind the head is a frame, or 1002',
        early_and_wrong,
        splits=(WHOLE,),
    ),
    Row(
        'head-and-close',
        '7.1.2',
        'a Close frame in one piece with the head is answered',
        early_close,
        splits=(WHOLE,),
    ),
    Row(
        'head-vanishes',
        '4.1',
        'a peer that goes away within its head opens nothing',
        vanishes,
        splits=(WHOLE,),
    ),
]

ROWS = [*LINES, *STARTS, *LIMITS, *ARRIVALS]
