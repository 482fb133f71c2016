"""Compression of single frames: draft-tyoshino-hybi-websocket-perframe-deflate
as deflate-frame, which older browsers knew as x-webkit-deflate-frame."""

from __future__ import annotations

from conformance.compressed import PLAIN, squeezed, talks
from conformance.opening import (
    SPLITS,
    answer_row,
    ask,
    opened,
    rejected,
    reply,
    request_row,
    welcomed,
)
from conformance.roles import End
from conformance.script import (
    binary,
    check_form,
    check_lives,
    fails,
    first,
    frame,
    more,
    part,
    ping,
    pong,
    sees,
    text,
    variants,
)
from conformance.table import JOINED, WHOLE, Row
from rawpeer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from zlibends import RSV1, Deflater, Inflater

from twspy import DeflateFrame, DeflateMessage, WebkitDeflateFrame

FRAME, WEBKIT = 'deflate-frame', 'x-webkit-deflate-frame'
DRAFT = 'draft-tyoshino-05'
OPTIONS = {'compression': DeflateFrame()}
HELLO = b'\xf2\x48\xcd\xc9\xc9\x07\x00'
AGAIN = b'\xf2\x00\x11\x00\x00'
LIMIT = 4096


def row(
    id: str,
    requirement: str,
    run: object,
    **more: object,
) -> Row:
    given: dict[str, object] = {'options': OPTIONS, 'echo': PLAIN} | more
    return Row(id, DRAFT, requirement, run, **given)  # type: ignore[arg-type]


def one(payload: bytes, opcode: int = TEXT, fin: bool = True) -> object:
    return frame(opcode, payload, rsv=RSV1, fin=fin)


def speaks(*steps: object) -> object:
    return talks(*steps, extension=FRAME)  # type: ignore[arg-type]


DATA = [
    row(
        'frame-deflate-hello',
        'a frame with RSV1 is compressed, and refers to those before',
        speaks(
            one(HELLO),
            one(AGAIN),
            text('plain'),
            one(AGAIN, BINARY),
            sees(text('Hello'), text('Hello'), text('plain'), binary('Hello')),
        ),
    ),
    row(
        'frame-deflate-fragments',
        'each frame of a message may be compressed or not',
        speaks(
            one(HELLO, fin=False),
            ping('now?'),
            part(', plain '),
            one(AGAIN, CONTINUATION, fin=False),
            part(),
            one(b'\x00', CONTINUATION),
            first('x'),
            one(AGAIN, CONTINUATION),
            sees(pong('now?'), text('Hello, plain Hello'), text('xHello')),
        ),
    ),
    row(
        'frame-deflate-empty',
        'an empty frame is one byte, or none',
        speaks(
            one(b'\x00'),
            one(HELLO),
            one(b''),
            one(AGAIN),
            sees(text(), text('Hello'), text(), text('Hello')),
        ),
    ),
    row(
        'frame-deflate-last-block',
        'a block with BFINAL, and frames behind it',
        speaks(
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00\x00'),
            one(b'\xf3\x48\xcd\xc9\xc9\x07\x00'),
            one(HELLO),
            sees(text('Hello'), text('Hello'), text('Hello')),
        ),
    ),
    row(
        'frame-deflate-control',
        'RSV1 on a control frame is 1002',
        variants(
            *(
                speaks(frame(opcode, payload, rsv=RSV1), fails(1002))  # type: ignore[misc, arg-type]
                for opcode in (PING, PONG, CLOSE)
                for payload in (b'', squeezed(b'\x03\xe8'))
            )
        ),
    ),
    row(
        'frame-deflate-broken',
        'what can not be inflated is 1007, in each frame',
        variants(
            *(
                speaks(*before, one(data, opcode), fails(1007))  # type: ignore[misc]
                for opcode, before in (
                    (BINARY, []),
                    (CONTINUATION, [first('x')]),
                    (CONTINUATION, [one(HELLO, fin=False)]),
                )
                for data in (b'\x07\x00', HELLO[:4], HELLO + b'\x01')
            )
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'frame-deflate-cut',
        'a frame ends where its data does, not that of the next',
        speaks(
            one(HELLO[:4], fin=False),
            more(HELLO[4:], rsv=RSV1),
            fails(1007),
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'frame-deflate-utf8',
        'text is UTF-8 once it is inflated, or 1007',
        variants(
            speaks(one(squeezed(b'caf\xe9')), fails(1007)),  # type: ignore[arg-type]
            speaks(  # type: ignore[arg-type]
                one(squeezed(b'\xc3'), fin=False),
                one(squeezed(b'x'), CONTINUATION),
                fails(1007),
            ),
        ),
        splits=(WHOLE, JOINED),
    ),
    row(
        'frame-deflate-utf8-cut',
        'characters may be cut between frames',
        speaks(
            one(squeezed(b'\xc3'), fin=False),
            one(squeezed(b'\xa9'), CONTINUATION),
            sees(text('é')),
        ),
    ),
    row(
        'frame-deflate-limit',
        'the limit is that of the message once it is inflated',
        speaks(
            one(squeezed(bytes(LIMIT)), BINARY),
            one(squeezed(bytes(LIMIT - 1)), BINARY, fin=False),
            one(squeezed(b'x'), CONTINUATION),
            one(squeezed(bytes(LIMIT - 1)), BINARY, fin=False),
            one(squeezed(b'xy'), CONTINUATION),
            sees(
                binary(bytes(LIMIT)),
                binary(bytes(LIMIT - 1) + b'x'),
            ),
            fails(1009),
        ),
        options=OPTIONS | {'max_size': LIMIT},
        splits=(WHOLE, JOINED),
    ),
    row(
        'frame-deflate-bomb',
        'a bomb of 1000:1 is 1009',
        speaks(one(squeezed(bytes(16 << 20)), BINARY), fails(1009)),
        splits=(WHOLE,),
    ),
]


# ---------------------------------------------------------------------- terms


class Exchanged:
    """Echoes in frames of their own, each compressed, in the window and the
    way that the peer has asked our end for."""

    def __init__(self, bits: int, takeover: bool) -> None:
        self.bits, self.takeover = bits, takeover

    def __call__(self, end: End) -> None:
        said = f'{FRAME}; max_window_bits={self.bits}'
        said += '' if self.takeover else '; no_context_takeover'
        end.open(Sec_WebSocket_Extensions=said)
        deflate, inflate = Deflater(), Inflater(self.bits, self.takeover)
        for number in range(6):
            data = b'%d Hello ' % number * 300
            sent = frame(TEXT, deflate(data), rsv=RSV1)
            end.peer.send(sent.pack(end.role))  # type: ignore[attr-defined]
            got = b''
            while len(got) < len(data):
                seen = end.peer.read_frame()
                check_form(end, seen)
                assert seen.rsv == RSV1
                got += inflate(seen.payload)
            assert got == data and seen.fin
        check_lives(end)


def offer(*elements: str) -> bytes:
    return ask(f'+Sec-WebSocket-Extensions: {", ".join(elements)}')


def answer(text: str) -> bytes:
    return reply(f'+Sec-WebSocket-Extensions: {text}')


BAD = [
    *(f'max_window_bits={v}' for v in ('0', '7', '16', '08', '+9', 'x')),
    'max_window_bits',
    'max_window_bits=9; max_window_bits=9',
    'no_context_takeover=1',
    'no_context_takeover; no_context_takeover',
    'server_no_context_takeover',
    'client_max_window_bits',
    'unknown',
]
TERMS = [
    *(
        row(
            f'frame-deflate-terms-{bits}' + ('' if takeover else '-alone'),
            f'our end keeps to a window of {bits} bits'
            + ('' if takeover else ', and begins each frame anew'),
            Exchanged(bits, takeover),
            echo={'compress': True, 'fragment_size': 700},
            splits=(WHOLE,),
        )
        for bits in (8, 9, 11, 15)
        for takeover in (True, False)
    ),
    *(
        row_
        for wish, said in (
            (DeflateFrame(), ''),
            (DeflateFrame(max_window_bits=9), '; max_window_bits=9'),
            (DeflateFrame(no_context_takeover=True), '; no_context_takeover'),
        )
        for row_ in (
            request_row(
                'frame-offer' + said.replace('; ', '-'),
                DRAFT,
                'a server answers to both names, with what it wants itself',
                welcomed(
                    offer(FRAME),
                    offer(f'{FRAME}; max_window_bits=8'),
                    offer(f'{FRAME}; no_context_takeover'),
                    offer('x', f'{FRAME}; x', FRAME, WEBKIT),
                    extensions=FRAME + said,
                ),
                options={'compression': wish},
            ),
            request_row(
                'frame-offer-webkit' + said.replace('; ', '-'),
                DRAFT,
                'the older one',
                welcomed(
                    offer(WEBKIT),
                    offer(f'{FRAME}; x', WEBKIT),
                    extensions=WEBKIT + said,
                ),
                options={'compression': wish},
            ),
        )
    ),
    request_row(
        'frame-offer-declined',
        DRAFT,
        'an offer with a parameter that is unknown or wrong is declined',
        welcomed(
            *(offer(f'{name}; {p}') for p in BAD for name in (FRAME, WEBKIT))
        ),
        options=OPTIONS,
        splits=(WHOLE,),
    ),
    request_row(
        'frame-offer-beside-message',
        '9.1',
        'of two that use RSV1 the one offered first is agreed on',
        welcomed(
            offer(FRAME, 'permessage-deflate'),
            offer(FRAME, WEBKIT, 'permessage-deflate'),
            extensions=FRAME,
        ),
        options={'compression': (DeflateMessage(), DeflateFrame())},
        splits=SPLITS,
    ),
    answer_row(
        'frame-answer',
        DRAFT,
        'a server may say what it wants',
        opened(
            answer(FRAME),
            answer(f'{FRAME}; no_context_takeover'),
            *(answer(f'{FRAME}; max_window_bits={n}') for n in range(8, 16)),
            extensions=(FRAME,),
        ),
        options=OPTIONS,
    ),
    answer_row(
        'frame-answer-wrong',
        DRAFT,
        'what is unknown or wrong fails the connection',
        rejected(
            101,
            'deflate-frame',
            *(answer(f'{FRAME}; {params}') for params in BAD),
            answer(WEBKIT),
            answer(f'{FRAME}, {FRAME}'),
        ),
        options=OPTIONS,
    ),
    answer_row(
        'frame-answer-webkit',
        DRAFT,
        'the older name is another one',
        opened(answer(WEBKIT), extensions=(WEBKIT,)),
        options={'compression': WebkitDeflateFrame()},
    ),
]

ROWS = [*DATA, *TERMS]
