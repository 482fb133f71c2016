"""The opening handshake as clients do it (RFC 6455 section 4.1)."""

from __future__ import annotations

import base64

from conformance.opening import (
    answer_row,
    opened,
    rejected,
    reply,
)
from conformance.roles import End
from conformance.table import WHOLE
from rawpeer import GUID, accept_key, read_request

import twspy

ASKS = {'protocols': ('chat', 'superchat')}


def status(line: str, *edits: str, behind: bytes = b'') -> bytes:
    return reply(*edits, start=line, behind=behind)


def plain(code: int, body: bytes = b'', *lines: str) -> bytes:
    """An answer that refuses."""
    fields = [f'Content-Length: {len(body)}', *lines]
    head = '\r\n'.join([f'HTTP/1.1 {code} Some Words', *fields, '', ''])
    return head.encode('latin-1') + body


# ------------------------------------------------------------- what is asked


def asks(end: End) -> None:
    """RFC 6455 section 4.1, items 1 to 9 of the request."""
    end.connect()
    first, head = read_request(end.peer)
    host, port = end.harness.listener.getsockname()
    assert first == 'GET / HTTP/1.1'
    assert head['host'] == f'{host}:{port}'
    assert head['upgrade'].lower() == 'websocket'
    assert head['connection'].lower() == 'upgrade'
    assert head['sec-websocket-version'] == '13'
    nonce = base64.b64decode(head['sec-websocket-key'], validate=True)
    assert len(nonce) == 16
    for name in (
        'origin',
        'authorization',
        'cookie',
        'content-length',
        'transfer-encoding',
        'sec-websocket-protocol',
        'sec-websocket-extensions',
        'sec-websocket-accept',
    ):
        assert name not in head
    assert end.peer.buffer == b''  # it waits for the answer


def asks_anew(end: End) -> None:
    """Each connection has a nonce of its own."""
    keys = set()
    for _ in range(8):
        with End(end.harness, end.role, end.split) as one:
            one.connect()
            keys.add(read_request(one.peer)[1]['sec-websocket-key'])
    assert len(keys) == 8
    assert len({key[:4] for key in keys}) == 8


def asks_for(end: End) -> None:
    """What the program asks for is in the request, in its order."""
    end.connect()
    _, head = read_request(end.peer)
    assert head['sec-websocket-protocol'] == 'chat, superchat'
    assert head['origin'] == 'http://example.com'
    assert head['x-mine'] == 'a, b'


REQUESTS = [
    answer_row(
        'client-asks',
        '4.1',
        'a request has what it must have, and nothing else',
        asks,
        splits=(WHOLE,),
    ),
    answer_row(
        'client-asks-anew',
        '4.1',
        'the nonce is chosen at random for each connection',
        asks_anew,
        splits=(WHOLE,),
    ),
    answer_row(
        'client-asks-for',
        '4.1',
        'subprotocols, origin and fields of the program',
        asks_for,
        splits=(WHOLE,),
        options=ASKS
        | {'origin': 'http://example.com', 'headers': {'X-Mine': 'a, b'}},
    ),
]

# ------------------------------------------------------------------ statuses

STATUSES = [
    answer_row(
        'answer-good',
        '4.1',
        'a 101 that has all it needs opens the connection',
        opened(reply()),
    ),
    answer_row(
        'answer-phrase',
        'RFC 9112 4',
        'the phrase says nothing: any, none, or in another language',
        opened(
            status('HTTP/1.1 101 '),
            status('HTTP/1.1 101 OK'),
            status('HTTP/1.1 101 200 Web Socket Protocol Handshake'),
            status('HTTP/1.1 101 \xe9\xff'),
        ),
    ),
    answer_row(
        'answer-later-minor',
        'RFC 9110 2.5',
        'a later minor version is as good as the one known',
        opened(status('HTTP/1.2 101 Switching Protocols')),
    ),
    *(
        answer_row(
            f'answer-status-{code}',
            '4.1',
            'a status other than 101 opens nothing, whatever its fields',
            rejected(
                code,
                str(code),
                status(f'HTTP/1.1 {code} Switching Protocols'),
                plain(code, b''),
            ),
        )
        for code in (
            *(200, 201, 202, 203, 206, 226),
            *(300, 304, 305, 306),
            *(400, 401, 402, 403, 404, 405, 407, 409, 410, 418, 426, 429, 431),
            *(499, 500, 501, 502, 503, 504, 505, 511, 599),
        )
    ),
    answer_row(
        'answer-status-204',
        'RFC 9112 6.3',
        'nor one without a body',
        rejected(204, '204', status('HTTP/1.1 204 No Content'), ends=False),
    ),
    *(
        answer_row(
            f'answer-status-{code}-unfollowed',
            'RFC 9110 15.4',
            'a redirect is a status like others where it leads nowhere',
            rejected(code, str(code), plain(code), plain(code, b'there')),
        )
        for code in (301, 302, 303, 307, 308)
    ),
    answer_row(
        'answer-status-redirect-off',
        'RFC 9110 15.4',
        'or where the program wants none',
        rejected(302, '', plain(302, b'', 'Location: ws://127.0.0.1:9/')),
        options={'redirects': 0},
    ),
    answer_row(
        'answer-interim',
        'RFC 9110 15.2',
        'answers of 1xx come before the answer',
        opened(
            b'HTTP/1.1 100 Continue\r\n\r\n' + reply(),
            b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n' * 8 + reply(),
            b'HTTP/1.1 102 Processing\r\n\r\n' + reply(),
            b'HTTP/1.1 199 What\r\nUpgrade: websocket\r\n\r\n' + reply(),
        ),
    ),
    answer_row(
        'answer-interim-only',
        'RFC 9110 15.2',
        'and open nothing themselves',
        rejected(
            None,
            'before its answer was complete',
            status('HTTP/1.1 100 Continue'),
            status('HTTP/1.1 102 Processing'),
            b'HTTP/1.1 103 Early Hints\r\n\r\n' * 4,
        ),
    ),
    answer_row(
        'answer-interim-endless',
        'RFC 9110 15.2',
        'there is a limit to them',
        rejected(
            None,
            'more than',
            b'HTTP/1.1 100 Continue\r\n\r\n' * 100 + reply(),
            ends=False,
        ),
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-status-line',
        'RFC 9112 4',
        'a status line is a version, three digits and a phrase',
        rejected(
            None,
            '',
            *(
                status(line)
                for line in (
                    '',
                    'HTTP/1.1',
                    'HTTP/1.1 ',
                    'HTTP/1.1  101 Switching Protocols',
                    'HTTP/1.1\t101 Switching Protocols',
                    'HTTP/1.1 101\tSwitching Protocols',
                    'HTTP/1.1 1O1 Switching Protocols',
                    'HTTP/1.1 0101 Switching Protocols',
                    'HTTP/1.1 1010 Switching Protocols',
                    'HTTP/1.1 10 Switching Protocols',
                    'HTTP/1.1 +101 Switching Protocols',
                    'HTTP/1.1 -101 Switching Protocols',
                    'HTTP/1.1 099 Switching Protocols',
                    'HTTP/1.1 000 Switching Protocols',
                    'HTTP/1.1 600 Switching Protocols',
                    'HTTP/1.1 999 Switching Protocols',
                    'HTTP/1.1 101.1 Switching Protocols',
                    'HTTP/1.1 101 Switching\0Protocols',
                    'HTTP/1.1 101 \x1b[31m',
                    'http/1.1 101 Switching Protocols',
                    'HTTP/1.10 101 Switching Protocols',
                    'HTTP/11 101 Switching Protocols',
                    'HTTP/0.9 101 Switching Protocols',
                    'HTTP/2.0 101 Switching Protocols',
                    'HTTP/2 101 Switching Protocols',
                    'ICY 200 OK',
                    'SSH-2.0-OpenSSH_9.2',
                    '101 Switching Protocols',
                    'GET / HTTP/1.1',
                    '\xff\xfe',
                )
            ),
        ),
    ),
    answer_row(
        'answer-http-1.0',
        'RFC 9110 7.8',
        'HTTP/1.0 knows no Upgrade',
        rejected(101, 'HTTP/1.0', status('HTTP/1.0 101 Switching Protocols')),
    ),
    answer_row(
        'answer-not-http',
        'RFC 9112 4',
        'what is no HTTP at all is no answer',
        rejected(
            None,
            '',
            b'',
            b'\x81\x05Hello',
            b'\x88\x02\x03\xe8',
            b'\x15\x03\x01\x00\x02\x02\x46',
            b'\0' * 64,
            b'<html>\r\n\r\n',
            b'220 mail.example ESMTP\r\n',
        ),
    ),
]

# -------------------------------------------------------------------- fields

FIELDS = [
    answer_row(
        'answer-upgrade',
        '4.1',
        'Upgrade is "websocket", once',
        rejected(
            101,
            'Upgrade',
            reply('-Upgrade'),
            reply('+Upgrade: websocket'),
            reply('+Upgrade: h2c'),
            *(
                reply(f'Upgrade: {value}')
                for value in (
                    '',
                    'h2c',
                    'websockets',
                    'web socket',
                    'websocket/13',
                    '"websocket"',
                    'websocket, h2c',
                    'h2c, websocket',
                    'websocket\xe9',
                )
            ),
        ),
    ),
    answer_row(
        'answer-upgrade-good',
        '4.1',
        'in any case',
        opened(
            reply('Upgrade: WebSocket'),
            reply('UPGRADE:WEBSOCKET'),
            reply('Upgrade:\twebsocket \t'),
        ),
    ),
    answer_row(
        'answer-connection',
        '4.1',
        'Connection lists "upgrade", as a whole token',
        rejected(
            101,
            'Connection',
            reply('-Connection'),
            *(
                reply(f'Connection: {value}')
                for value in (
                    '',
                    ',',
                    'close',
                    'keep-alive',
                    'notupgrade',
                    'upgraded',
                    'up grade',
                    '"upgrade"',
                    'upgrade;',
                    'Upgrad\xe9',
                )
            ),
        ),
    ),
    answer_row(
        'answer-connection-good',
        '4.1',
        'in any case, and with others, be it in fields of their own',
        opened(
            reply('Connection: upgrade'),
            reply('connection: UPGRADE'),
            reply('Connection: keep-alive, Upgrade'),
            reply('Connection: ,Upgrade,,close'),
            reply('+Connection: keep-alive'),
            reply('Connection: keep-alive', '+Connection: upgrade'),
        ),
    ),
    answer_row(
        'answer-accept',
        '4.1',
        'Sec-WebSocket-Accept is what the key asks for, once',
        rejected(
            101,
            'Sec-WebSocket-Accept',
            reply('-Sec-WebSocket-Accept'),
            reply('+Sec-WebSocket-Accept: {accept}'),
            reply('+sec-websocket-accept:'),
            *(
                reply(f'Sec-WebSocket-Accept: {value}')
                for value in (
                    '',
                    's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
                    '{accept}=',
                    'x{accept}',
                    '{accept} x',
                    '{accept},',
                    '{accept}, {accept}',
                    '"{accept}"',
                    '{accept}\xff',
                    GUID.decode(),
                    '=' * 28,
                )
            ),
        ),
    ),
    answer_row(
        'answer-accept-good',
        '4.1',
        'white space around it is none of it',
        opened(
            reply('Sec-WebSocket-Accept:{accept}'),
            reply('sec-websocket-accept: \t{accept}\t '),
        ),
    ),
    answer_row(
        'answer-more-fields',
        '4.1',
        'fields that nobody has asked for say nothing',
        opened(
            reply(
                '+Server: nginx',
                '+Date: Mon, 01 Jan 2024 00:00:00 GMT',
                '+Sec-WebSocket-Version: 13',
                '+Content-Length: 0',
                '+Content-Type: text/html',
                '+Set-Cookie: a=b',
                '+Set-Cookie: c=d',
                '+Sec-WebSocket-Location: ws://x/',
                '+Sec-WebSocket-Origin: x',
            )
        ),
    ),
]


def changed(end: End) -> None:
    """An accept that is almost right: its case, one bit, another key's."""

    def swapped(accept: str) -> str:
        return accept.swapcase()

    def cut(accept: str) -> str:
        return accept[:-1]

    def other(accept: str) -> str:
        return ('A' if accept[0] != 'A' else 'B') + accept[1:]

    def last(accept: str) -> str:
        # Of the last digit two bits say nothing: the same 20 bytes.
        return accept[:-2] + chr(ord(accept[-2]) + 1) + '='

    def of_key(key: str) -> str:
        return accept_key({'sec-websocket-key': key})

    for change in (swapped, cut, other, last, None):
        with End(end.harness, end.role, end.split) as one:
            one.connect()
            _, head = read_request(one.peer)
            key = head['sec-websocket-key']
            wrong = (
                of_key(key.lower()) if change is None else change(of_key(key))
            )
            assert wrong != of_key(key)
            one.peer.send(reply().replace(b'{accept}', wrong.encode()))
            one.peer.expect_end()
            one.join()
            error = one.failure
            assert isinstance(error, twspy.HandshakeError), repr(error)
            assert 'Sec-WebSocket-Accept' in str(error)
            assert not one.program.opened.is_set()


FIELDS.append(
    answer_row(
        'answer-accept-almost',
        '4.1',
        'nor is it in another case, or a bit off',
        changed,
        splits=(WHOLE,),
    )
)

CHOICES = [
    answer_row(
        'answer-protocol',
        '4.1',
        'a subprotocol that was asked for is that of the connection',
        opened(
            reply('+Sec-WebSocket-Protocol: superchat'),
            reply('+sec-websocket-protocol:superchat\t'),
            protocol='superchat',
        ),
        options=ASKS,
    ),
    answer_row(
        'answer-protocol-none',
        '4.1',
        'a server may choose none',
        opened(reply()),
        options=ASKS,
    ),
    answer_row(
        'answer-protocol-other',
        '4.1',
        'one that was not asked for fails the connection',
        rejected(
            101,
            'subprotocol',
            *(
                reply(f'+Sec-WebSocket-Protocol: {value}')
                for value in (
                    'other',
                    'Chat',
                    'chats',
                    'cha',
                    'chat\xe9',
                    '"chat"',
                )
            ),
        ),
        options=ASKS,
    ),
    answer_row(
        'answer-protocol-unasked',
        '4.1',
        'so does any where none was asked for',
        rejected(
            101,
            'subprotocol',
            reply('+Sec-WebSocket-Protocol: chat'),
            reply('+Sec-WebSocket-Protocol:'),
        ),
    ),
    answer_row(
        'answer-protocol-several',
        '11.3.4',
        'a server chooses one, in one field',
        rejected(
            101,
            'rotocol',
            reply('+Sec-WebSocket-Protocol: chat, superchat'),
            reply('+Sec-WebSocket-Protocol: chat,'),
            reply('+Sec-WebSocket-Protocol: chat chat'),
            reply(
                '+Sec-WebSocket-Protocol: chat',
                '+Sec-WebSocket-Protocol: superchat',
            ),
            reply(
                '+Sec-WebSocket-Protocol: chat',
                '+Sec-WebSocket-Protocol: chat',
            ),
            reply('+Sec-WebSocket-Protocol:'),
        ),
        options=ASKS,
    ),
    answer_row(
        'answer-extension-unasked',
        '4.1',
        'an extension that was not offered fails the connection',
        rejected(
            101,
            'extension',
            *(
                reply(f'+Sec-WebSocket-Extensions: {value}')
                for value in (
                    'permessage-deflate',
                    'x-unknown',
                    'a, b; c=d',
                    '\xff',
                )
            ),
        ),
    ),
    answer_row(
        'answer-extensions-empty',
        'RFC 9110 5.6.1',
        'a list that is empty agrees on nothing',
        opened(reply('+Sec-WebSocket-Extensions:')),
    ),
]

# -------------------------------------------------------------------- bodies

LONG = b'x' * (64 * 1024)


def chunked(*chunks: bytes) -> bytes:
    coded = b''.join(b'%x\r\n%b\r\n' % (len(c), c) for c in (*chunks, b''))
    return (
        b'HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n' + coded
    )


BODIES = [
    answer_row(
        'answer-body-length',
        'RFC 9112 6.3',
        'the body of a refusal is as long as it says, and is handed on',
        rejected(
            403,
            '403',
            plain(403, b'go away\n'),
            plain(403, b'go away\n') + b'and more',
            chunked(b'go ', b'away\n'),
            chunked(b'go away\n') + b'and more',
            ends=False,
            body=b'go away\n',
        ),
    ),
    answer_row(
        'answer-body-to-end',
        'RFC 9112 6.3',
        'or all until the end of the stream',
        rejected(
            403,
            '403',
            b'HTTP/1.1 403 Forbidden\r\n\r\ngo away\n',
            b'HTTP/1.1 403 Forbidden\r\nContent-Length: 99\r\n\r\ngo away\n',
            body=b'go away\n',
        ),
    ),
    answer_row(
        'answer-body-long',
        'RFC 9112 6.3',
        '64 KiB of it are kept, however much comes',
        rejected(
            403,
            '403',
            plain(403, LONG),
            plain(403, LONG + b'y' * 100_000),
            chunked(LONG, b'y' * 100_000),
            b'HTTP/1.1 403 Forbidden\r\n\r\n' + LONG + b'y' * 100_000,
            b'HTTP/1.1 403 Forbidden\r\nContent-Length: 999999999999\r\n\r\n'
            + LONG
            + b'y',
            ends=False,
            body=LONG,
        ),
        splits=(WHOLE,),
    ),
    answer_row(
        'answer-body-101',
        'RFC 9112 6.3',
        'a 101 that can not be accepted has none',
        rejected(
            101,
            '',
            reply('-Upgrade', '+Content-Length: 5'),
            ends=False,
            body=b'',
        ),
    ),
]

ROWS = [*REQUESTS, *STATUSES, *FIELDS, *CHOICES, *BODIES]
