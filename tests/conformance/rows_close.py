"""The closing handshake, and ends without one (RFC 6455 sections 5.5.1, 7)."""

from __future__ import annotations

from conformance.roles import End
from conformance.script import (
    Raw,
    binary,
    check_frame,
    close,
    closes,
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
    stream_ends,
    tcp_ends,
    text,
    told,
    variants,
    we_close,
)
from conformance.table import CUTS, JOINED, WHOLE, Row
from rawpeer import BINARY, CLOSE

BRIEF = {'close_timeout': 0.3}

# --------------------------------------------------- Close frames of the peer

PAYLOAD = [
    Row(
        'close-1000',
        '5.5.1',
        'a Close frame is answered with its code, and the program told',
        script(close(1000, 'bye'), closes(1000, 'bye')),
        autobahn='7.1.1, 7.3.4',
    ),
    Row(
        'close-empty',
        '7.1.5',
        'one without a code is answered by such a one, and told as 1005',
        script(close(), closes()),
        autobahn='7.3.1',
    ),
    Row(
        'close-1-byte',
        '5.5.1',
        'a payload begins with a code of 2 bytes',
        variants(
            script(frame(CLOSE, b'\x03'), fails(1002)),
            script(frame(CLOSE, b'a'), fails(1002)),
        ),
        autobahn='7.3.2',
    ),
    Row(
        'close-2-bytes',
        '5.5.1',
        'it may be the code alone',
        script(close(1000), closes(1000)),
        autobahn='7.3.3',
    ),
    Row(
        'close-reason-123',
        '5.5',
        'a reason of 123 bytes fits',
        variants(
            script(close(1000, '*' * 123), closes(1000, '*' * 123)),
            script(close(1000, 'ö' * 61), closes(1000, 'ö' * 61)),
        ),
        autobahn='7.3.5',
    ),
    Row(
        'close-reason-124',
        '5.5',
        'and one of 124 does not',
        script(close(1000, '*' * 124), fails(1002)),
        autobahn='7.3.6',
    ),
    Row(
        'close-reason-nul',
        '5.5.1',
        'a reason may hold any character',
        script(close(1000, 'a\0b\n€'), closes(1000, 'a\0b\n€')),
    ),
    Row(
        'close-reason-not-utf8',
        '5.5.1',
        'a reason is UTF-8',
        variants(
            *(
                script(close(1000, data), fails(1007))
                for data in (
                    b'\xff',
                    b'bye \xed\xa0\x80',
                    b'\xc3',
                    b'\xce\xba\xed\xa0\x80edited',
                    b'*' * 122 + b'\xc3',
                    b'\xf4\x90\x80\x80',
                    b'\xc0\x80',
                )
            )
        ),
        autobahn='7.5.1',
    ),
]

VALID = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
# Which case of Autobahn sends the code.
VALID_CASES = {
    code: f'7.7.{number}'
    for number, code in enumerate(
        (*range(1000, 1004), *range(1007, 1012), 3000, 3999, 4000, 4999), 1
    )
}
INVALID = [0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100]
INVALID += [1999, 2000, 2999, 5000, 32768, 65535]
INVALID_CASES = {
    0: '7.9.1',
    999: '7.9.2',
    1004: '7.9.3',
    1005: '7.9.4',
    1006: '7.9.5',
    1016: '7.9.6',
    1100: '7.9.7',
    2000: '7.9.8',
    2999: '7.9.9',
    5000: '7.13.1',
    65535: '7.13.2',
}
CODES = [
    Row(
        f'close-code-{code}',
        '7.4',
        f'{code} is a code',
        variants(
            script(close(code), closes(code)),
            script(close(code, 'ünd'), closes(code, 'ünd')),
        ),
        autobahn=VALID_CASES.get(code, ''),
    )
    for code in VALID
]
CODES += [
    Row(
        f'close-code-{code}',
        '7.4',
        f'{code} is not for a Close frame',
        variants(
            script(close(code), fails(1002)),
            script(close(code, 'why'), fails(1002)),
        ),
        autobahn=INVALID_CASES.get(code, ''),
    )
    for code in INVALID
]

BEHIND = [
    Row(
        f'close-then-{name}',
        '5.5.1',
        'what comes behind a Close frame is not looked at',
        variants(
            script(close(1000), *frames, closes(1000)),
            script(
                text('before'),
                close(1000),
                *frames,
                sees(text('before')),
                closes(1000),
            ),
        ),
        autobahn=case,
    )
    for name, frames, case in (
        ('close', [close(1001, 'again')], '7.1.2'),
        ('ping', [ping('late')], '7.1.3'),
        ('text', [text('late')], '7.1.4'),
        ('fragments', [first('late'), ping(), more('late')], ''),
        ('bad-frames', [text('late', wrong_mask=True, rsv=7)], ''),
        ('bytes', [Raw(b'\xff' * 300)], ''),
    )
]
BEHIND += [
    Row(
        'close-in-message',
        '5.5.1',
        'a Close frame ends a message that is not complete',
        script(first('frag'), close(1000), more('ment'), closes(1000)),
        autobahn='7.1.5',
    ),
    Row(
        'close-behind-256k',
        '5.5.1',
        'what came before a Close frame is served',
        script(
            binary(b'*' * (256 << 10)),
            close(1000),
            ping(),
            sees(binary(b'*' * (256 << 10))),
            closes(1000),
        ),
        splits=(WHOLE, CUTS, JOINED),
        autobahn='7.1.6',
    ),
    Row(
        'close-behind-ping',
        '5.5.1',
        'a Ping before it is answered before it',
        script(ping('1'), close(1000), sees(pong('1')), closes(1000)),
    ),
]

# ----------------------------------------------------------- our Close frame

OURS = [
    Row(
        f'close-ours-{code}',
        '7.1.2',
        'the program closes, with its code and reason; the peer answers',
        script(
            we_close(code, reason),
            sees(close(code, reason)),
            close(code),
            tcp_ends,
            told(code, '', by='us'),
        ),
    )
    for code, reason in (
        (1000, ''),
        (1001, 'ünd'),
        (1011, '*' * 123),
        (3000, ''),
        (4999, 'x'),
    )
]


def refuses_codes(end: End) -> None:
    end.open()
    for code in (-1, 0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65536):
        try:
            end.connection.close(code)
        except ValueError:
            continue
        raise AssertionError(f'{code} was taken')
    end.send(text('alive').pack(end.role))
    check_frame(end, end.peer.read_frame(), text('alive'))


OURS += [
    Row(
        'close-ours-bad-code',
        '7.4.1',
        'codes that are not for Close frames are not sent in one',
        refuses_codes,
        splits=(WHOLE,),
    ),
    Row(
        'close-ours-other-answer',
        '7.1.5',
        'the code is that of the frame which came, where both closed',
        variants(
            script(
                we_close(1000, 'ours'),
                sees(close(1000, 'ours')),
                close(4001, 'theirs'),
                tcp_ends,
                told(4001, 'theirs', by='us'),
            ),
            script(
                we_close(1000),
                sees(close(1000)),
                close(),
                tcp_ends,
                told(1005, '', by='us'),
            ),
        ),
    ),
    Row(
        'close-ours-data',
        '7.1.6',
        'behind our Close frame nothing of the peer is answered',
        script(
            we_close(1001, 'ours'),
            sees(close(1001, 'ours')),
            text('late'),
            ping('late'),
            first('late', BINARY),
            part('late'),
            ping(),
            more(),
            binary(b'*' * 1000),
            close(1001),
            tcp_ends,
            told(1001, '', by='us'),
        ),
        splits=(WHOLE, CUTS),
    ),
    Row(
        'close-ours-in-message',
        '7.1.6',
        'our Close frame ends a message of the peer that is not complete',
        script(
            first('frag'),
            ping(),
            sees(pong()),
            we_close(1001),
            sees(close(1001)),
            more('ment'),
            close(1001),
            tcp_ends,
            told(1001, '', by='us'),
        ),
        splits=(WHOLE, CUTS),
    ),
    Row(
        'close-ours-no-answer',
        '7.1.1',
        'an answer is not waited for without a limit',
        script(
            we_close(1000, 'ours'),
            sees(close(1000, 'ours')),
            stream_ends,
            told(1006, by='us'),
        ),
        splits=(WHOLE,),
        options=BRIEF,
    ),
    Row(
        'close-ours-end',
        '7.1.5',
        'the end of the stream is no answer: 1006',
        script(
            we_close(1000, 'ours'),
            sees(close(1000, 'ours')),
            peer_ends,
            stream_ends,
            told(1006, by='us'),
        ),
        splits=(WHOLE,),
    ),
]

ROWS = [*PAYLOAD, *CODES, *BEHIND, *OURS]
