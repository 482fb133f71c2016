"""The opening handshake as servers judge it (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64

from conformance.opening import (
    KEY,
    SPLITS,
    ask,
    refused,
    request_row,
    welcomed,
)
from conformance.table import WHOLE


def key(value: str) -> bytes:
    return ask(f'Sec-WebSocket-Key: {value}')


def version(value: str) -> bytes:
    return ask(f'Sec-WebSocket-Version: {value}')


def upgrade(value: str) -> bytes:
    return ask(f'Upgrade: {value}')


def connection(value: str) -> bytes:
    return ask(f'Connection: {value}')


def start(line: str) -> bytes:
    return ask(start=line)


def of_bytes(count: int) -> str:
    return base64.b64encode(bytes(range(count))).decode()


PLAIN = ('-Upgrade', '-Connection', '-Sec-WebSocket-Key')

START = [
    request_row(
        'request-good',
        '4.2.2',
        'a request that has all it needs opens a connection',
        welcomed(ask(), path='/', target='/', method='GET', query=''),
    ),
    request_row(
        'request-method',
        '4.1',
        'the method is GET, in upper case',
        refused(
            405,
            *(
                start(f'{method} / HTTP/1.1')
                for method in (
                    'POST PUT OPTIONS DELETE TRACE PATCH CONNECT get Get '
                    'GETS XGET'
                ).split()
            ),
        ),
    ),
    request_row(
        'request-http-1.0',
        '4.1',
        'the HTTP version is 1.1 at least',
        refused(400, start('GET / HTTP/1.0')),
    ),
    request_row(
        'request-http-1.2',
        'RFC 9110 2.5',
        'a later minor version is as good as the one known',
        welcomed(start('GET / HTTP/1.2'), start('GET / HTTP/1.9')),
    ),
    request_row(
        'request-http-major',
        'RFC 9110 15.6.6',
        'another major version is 505',
        refused(
            505,
            *(
                start(f'GET / HTTP/{v}')
                for v in ('0.9', '2.0', '3.0', '9.9', '2.1')
            ),
        ),
    ),
    request_row(
        'request-http-junk',
        'RFC 9112 2.3',
        'a version is HTTP/ in upper case, a digit, a dot and a digit',
        refused(
            400,
            *(
                start(f'GET / {v}')
                for v in (
                    'http/1.1',
                    'Http/1.1',
                    'HTTP/1',
                    'HTTP/1.',
                    'HTTP/.1',
                    'HTTP/11',
                    'HTTP/1.10',
                    'HTTP/01.1',
                    'HTTP/1,1',
                    'HTTP/1.x',
                    'HTTP/+1.1',
                    'HTTP 1.1',
                    'HTTPS/1.1',
                    'WS/1.1',
                    'HTTP/1.1 ',
                    'HTTP/1.1 x',
                    ' HTTP/1.1',
                    '',
                )
            ),
        ),
    ),
]

FIELDS = [
    request_row(
        'request-without-host',
        '4.2.1',
        'a Host field is there',
        refused(400, ask('-Host')),
    ),
    request_row(
        'request-host-junk',
        'RFC 9112 3.2',
        'a Host that is no host and port is 400',
        refused(
            400,
            *(
                ask(f'Host: {host}')
                for host in (
                    '',
                    'a b',
                    'http://a',
                    'a/b',
                    'a,b',
                    'a:b',
                    'a:0',
                    'a:65536',
                    'a:080',
                    'a:80:80',
                    'user@a',
                    '[::1',
                    '::1',
                    '[]',
                    '[::1]x',
                    'a?b',
                    'a#b',
                    'a\\b',
                    '"a"',
                    ':80',
                    'caf\xe9',
                )
            ),
        ),
    ),
    request_row(
        'request-host-twice',
        'RFC 9112 3.2',
        'two Host fields are 400, be they the same',
        refused(
            400, ask('+Host: localhost'), ask('+host: other'), ask('+HOST:')
        ),
    ),
    request_row(
        'request-host-good',
        'RFC 9110 7.2',
        'names, addresses and ports are hosts',
        welcomed(
            *(
                ask(f'Host: {host}')
                for host in (
                    'localhost:80',
                    'localhost:65535',
                    'LOCALHOST',
                    '127.0.0.1',
                    '[::1]',
                    '[::1]:8080',
                    '[fe80::1%25eth0]',
                    'a-b.c_d.example:',
                    'example.com.',
                )
            )
        ),
    ),
    request_row(
        'request-without-upgrade',
        '4.2.1',
        'without "websocket" in Upgrade it is a plain request: 426',
        refused(
            426,
            ask('-Upgrade'),
            ask(*PLAIN),
            *(
                upgrade(value)
                for value in (
                    '',
                    ',',
                    'h2c',
                    'websockets',
                    'notwebsocket',
                    'web socket',
                    'websocket h2c',
                    'websocket;q=1',
                    '"websocket"',
                    'websocket/13',
                    'h2c, websocket2',
                    'websocke\xe9',
                )
            ),
        ),
    ),
    request_row(
        'request-upgrade-good',
        '4.2.1',
        'Upgrade lists "websocket", in any case',
        welcomed(
            ask('+Upgrade: h2c'),
            ask('Upgrade: h2c', '+upgrade: websocket'),
            *(
                upgrade(value)
                for value in (
                    'WebSocket',
                    'WEBSOCKET',
                    'h2c, websocket',
                    'websocket,h2c',
                    ' ,, \twebsocket\t,',
                )
            ),
        ),
    ),
    request_row(
        'request-without-connection',
        '4.2.1',
        'Connection lists "upgrade", as a whole token',
        refused(
            400,
            ask('-Connection'),
            *(
                connection(value)
                for value in (
                    '',
                    ',,',
                    'close',
                    'keep-alive',
                    'notupgrade',
                    'upgraded',
                    'up grade',
                    'keep-alive upgrade',
                    'keep-alive; upgrade',
                    '"upgrade"',
                    'upgrad\xe9',
                )
            ),
        ),
    ),
    request_row(
        'request-connection-good',
        '4.2.1',
        'in any case, and with others',
        welcomed(
            ask('+Connection: keep-alive'),
            ask('Connection: keep-alive', '+CONNECTION: upgrade'),
            *(
                connection(value)
                for value in (
                    'upgrade',
                    'UPGRADE',
                    'keep-alive, Upgrade',
                    'keep-alive,upgrade,close',
                    ',\tUpgrade ,,',
                )
            ),
        ),
    ),
    request_row(
        'request-names-in-any-case',
        'RFC 9110 5.1',
        'names of fields are the same in any case',
        welcomed(
            ask()
            .lower()
            .replace(b'get / http', b'GET / HTTP')
            .replace(KEY.lower().encode(), KEY.encode()),
            b'GET / HTTP/1.1\r\nHOST:localhost\r\nUPGRADE:websocket\r\n'
            b'CONNECTION:Upgrade\r\nSEC-WEBSOCKET-KEY:%b\r\n'
            b'SEC-WEBSOCKET-VERSION:13\r\n\r\n' % KEY.encode(),
        ),
    ),
    request_row(
        'request-white-space',
        'RFC 9110 5.5',
        'white space around a value is none of it',
        welcomed(
            ask(
                'Host:localhost',
                'Upgrade:\twebsocket\t',
                'Connection:  Upgrade  ',
                f'Sec-WebSocket-Key: \t {KEY} \t ',
                'Sec-WebSocket-Version:\t13 ',
            )
        ),
    ),
]

KEYS = [
    request_row(
        'request-without-key',
        '4.2.1',
        'a Sec-WebSocket-Key is there',
        refused(400, ask('-Sec-WebSocket-Key')),
    ),
    request_row(
        'request-key-twice',
        '11.3.1',
        'it comes once, be it the same',
        refused(
            400,
            ask(f'+Sec-WebSocket-Key: {KEY}'),
            ask('+sec-websocket-key:'),
            key(f'{KEY}, {KEY}'),
            key(f'{KEY},'),
        ),
    ),
    request_row(
        'request-key-size',
        '4.2.1',
        'it is of 16 bytes',
        refused(
            400, key(''), *(key(of_bytes(n)) for n in range(1, 33) if n != 16)
        ),
        splits=(WHOLE,),
    ),
    request_row(
        'request-key-junk',
        '4.2.1',
        'and base64 (RFC 4648 section 4)',
        refused(
            400,
            *(
                key(value)
                for value in (
                    '!' * 24,
                    '=' * 24,
                    KEY[:-2],
                    KEY[:-1],
                    KEY[:-2] + 'AA',
                    KEY[:-2] + '=A',
                    KEY + '=',
                    KEY + ' ' + KEY,
                    KEY[:12] + ' ' + KEY[13:],
                    KEY[:12] + '\t' + KEY[12:],
                    KEY[:12] + '-' + KEY[13:],
                    KEY[:12] + '_' + KEY[13:],
                    KEY[:12] + '\xe9' + KEY[13:],
                    f'"{KEY}"',
                )
            ),
        ),
    ),
]

VERSIONS = [
    request_row(
        'request-without-version',
        '4.4',
        'without Sec-WebSocket-Version it is 426, which names 13',
        refused(426, ask('-Sec-WebSocket-Version')),
    ),
    request_row(
        'request-version-other',
        '4.4',
        'so it is with one that is not 13',
        refused(
            426,
            *(
                version(value)
                for value in (
                    '',
                    '0',
                    '4',
                    '7',
                    '8',
                    '12',
                    '14',
                    '25',
                    '130',
                    '255',
                    '256',
                    '269',
                    '4294967309',
                    '18446744073709551629',
                    '013',
                    '13.0',
                    '+13',
                    '-13',
                    '0x0d',
                    '1 3',
                    '13;',
                    '"13"',
                    'x',
                    '13\xb2',
                )
            ),
        ),
    ),
    request_row(
        'request-version-list',
        '4.1',
        'it is no list',
        refused(
            426,
            version('13, 8'),
            version('8, 13'),
            version('13,'),
            version(',13'),
            version('13 13'),
        ),
    ),
    request_row(
        'request-version-twice',
        '11.3.5',
        'it comes once, be it the same',
        refused(
            400,
            ask('+Sec-WebSocket-Version: 13'),
            ask('+Sec-WebSocket-Version: 8'),
        ),
    ),
]

PROTOCOLS = [
    request_row(
        f'request-protocol-{name}',
        '4.2.2',
        'the first of the subprotocols asked for that we speak, if any',
        welcomed(
            ask(*(f'+Sec-WebSocket-Protocol: {value}' for value in offered)),
            protocol=chosen,
        ),
        options={'protocols': ('chat', 'superchat')},
        splits=(WHOLE,) if name == 'many' else SPLITS,
    )
    for name, offered, chosen in (
        ('first', ('chat',), 'chat'),
        ('clients-order', ('superchat, chat',), 'superchat'),
        ('several-fields', ('nope', 'superchat', 'chat'), 'superchat'),
        ('among-others', ('nope,superchat ,chat',), 'superchat'),
        ('empty-elements', (', ,chat,,',), 'chat'),
        ('none', ('nope, other',), None),
        ('case', ('Chat, SUPERCHAT',), None),
        ('prefix', ('cha, chats, superchatx',), None),
        ('twice', ('chat, chat', 'chat'), 'chat'),
        ('many', (', '.join(f'p{n}' for n in range(900)) + ', chat',), 'chat'),
    )
]
PROTOCOLS += [
    request_row(
        'request-protocol-unasked',
        '4.2.2',
        'none is answered where none is asked for',
        welcomed(ask(), protocol=None),
        options={'protocols': ('chat', 'superchat')},
    ),
    request_row(
        'request-protocol-junk',
        '4.1',
        'subprotocols are tokens, and one at least',
        refused(
            400,
            *(
                ask(f'+Sec-WebSocket-Protocol: {value}')
                for value in (
                    '',
                    ',',
                    'a b',
                    'a/b',
                    'a;b',
                    '"chat"',
                    'chat, "',
                    'chat, a@b',
                    'chat, {}',
                    'ch\xe4t',
                    'chat\xff',
                    'chat=1',
                )
            ),
        ),
        options={'protocols': ('chat', 'superchat')},
    ),
]

BODIES = [
    request_row(
        'request-body-length',
        'RFC 9112 6',
        'a request that upgrades has no body: 400 and the end',
        refused(
            400,
            *(
                ask(f'+Content-Length: {value}', behind=b'GET /')
                for value in (
                    '5',
                    '1',
                    '18446744073709551616',
                    '-1',
                    '+0',
                    '0x0',
                    '0, 0',
                    '0 0',
                    '00',
                    '',
                    'x',
                    '\xb2',
                )
            ),
            ask('+Content-Length: 0', '+Content-Length: 0'),
            ask('+Content-Length: 0', '+content-length: 5', behind=b'GET /'),
            ask(*PLAIN, '+Content-Length: 5', behind=b'GET /'),
        ),
    ),
    request_row(
        'request-body-transfer',
        'RFC 9112 6.1',
        'nor in any transfer coding',
        refused(
            400,
            *(
                ask(f'+Transfer-Encoding: {value}', behind=b'0\r\n\r\n')
                for value in (
                    'chunked',
                    'Chunked',
                    'identity',
                    'gzip',
                    'xchunked',
                    'chunked, identity',
                    '"chunked"',
                    '',
                )
            ),
            ask(*PLAIN, '+Transfer-Encoding: chunked', behind=b'0\r\n\r\n'),
        ),
    ),
    request_row(
        'request-body-both',
        'RFC 9112 6.3',
        'two ways to say how long it is are how requests are smuggled',
        refused(
            400,
            ask(
                '+Content-Length: 0',
                '+Transfer-Encoding: chunked',
                behind=b'0\r\n\r\n',
            ),
            ask(
                '+Transfer-Encoding: chunked',
                '+Content-Length: 44',
                behind=b'0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n',
            ),
            ask('+Transfer-Encoding : chunked', '+Content-Length: 0'),
            ask('+Transfer-Encoding\t: chunked'),
            ask('+Content-Length : 5', behind=b'GET /'),
            ask('+X: y\r\n Transfer-Encoding: chunked'),
            ask('+X: y\nTransfer-Encoding: chunked'),
            ask('+X: y\rTransfer-Encoding: chunked'),
            ask('+X: y\x0bTransfer-Encoding: chunked'),
        ),
    ),
    request_row(
        'request-body-length-0',
        'RFC 9110 8.6',
        'Content-Length: 0 is no body',
        welcomed(ask('+Content-Length: 0'), ask('+content-length:0 ')),
    ),
    request_row(
        'request-one-answer',
        'RFC 9112 9.3',
        'a request behind one that is refused gets no answer',
        refused(400, ask('-Host', behind=ask()), ask('-Host') * 3),
    ),
    request_row(
        'request-one-answer-426',
        'RFC 9112 9.3',
        'nor behind a plain one',
        refused(
            426,
            ask(*PLAIN, behind=ask()),
            ask(*PLAIN, start='GET / HTTP/1.0', behind=ask()),
        ),
    ),
]


def same(origin: str, host: str = 'example.com') -> bytes:
    return ask(f'Host: {host}', f'+Origin: {origin}')


SAME = {'trusted_origins': 'same-origin'}
LISTED = {'trusted_origins': ('https://app.example', 'http://[::1]:8000')}

ORIGINS = [
    request_row(
        'request-origin-any',
        '10.2',
        'without a policy each origin passes, and none',
        welcomed(
            ask(),
            *(
                ask(f'+Origin: {origin}')
                for origin in ('http://evil.example', 'null', 'x', '', '\xff')
            ),
        ),
    ),
    request_row(
        'request-origin-twice',
        'RFC 6454 7.3',
        'it comes once',
        refused(
            400,
            ask('+Origin: http://localhost', '+Origin: http://localhost'),
        ),
    ),
    request_row(
        'request-origin-same',
        '4.2.2',
        'the same origin passes, and a client that is no browser',
        welcomed(
            ask(),
            *(
                same(origin)
                for origin in (
                    'http://example.com',
                    'https://example.com',
                    'HTTP://EXAMPLE.com',
                    'http://example.com:80',
                )
            ),
            same('http://example.com:8080', 'example.com:8080'),
            same('http://example.com', 'example.com:80'),
            same('http://example.com', 'EXAMPLE.com:'),
            same('http://[::1]:8000', '[::1]:8000'),
            same('https://example.com', 'example.com:443'),
        ),
        options=SAME,
    ),
    request_row(
        'request-origin-foreign',
        '4.2.2',
        'another origin is 403, however it looks',
        refused(
            403,
            *(
                same(origin)
                for origin in (
                    '',
                    'null',
                    'Null',
                    'example.com',
                    '//example.com',
                    'http://',
                    'http:///example.com',
                    'http:example.com',
                    'http://example.com/',
                    'http://example.com.',
                    'http://example.co',
                    'http://example.comm',
                    'http://example.com:81',
                    'http://example.com:080',
                    'http://example.com:',
                    'http://example.com:443',
                    'https://example.com:80',
                    'http://example.com.evil.example',
                    'http://evil-example.com',
                    'http://evil.example/example.com',
                    'http://evil.example#example.com',
                    'http://example.com@evil.example',
                    'http://example.com\\@evil.example',
                    'http://evil.example http://example.com',
                    'http://example.com http://evil.example',
                    'http://example.com, http://evil.example',
                    'http://example%2ecom',
                    'http://ex\xe4mple.com',
                    'ftp://example.com',
                    'ws://example.com',
                    'file://',
                    'chrome-extension://example.com',
                )
            ),
            same('http://example.com', 'example.com:8080'),
            same('http://example.com:8080', 'example.com'),
            same('http://localhost', '127.0.0.1'),
        ),
        options=SAME,
        splits=(WHOLE,),
    ),
    request_row(
        'request-origin-absolute-form',
        'RFC 9112 3.2.2',
        'the host of an absolute-form counts, not that of the field',
        refused(
            403,
            ask(
                'Host: evil.example',
                '+Origin: http://evil.example',
                start='GET http://example.com/ HTTP/1.1',
            ),
        ),
        options=SAME,
    ),
    request_row(
        'request-origin-listed',
        '10.2',
        'those listed pass',
        welcomed(
            ask(),
            *(
                ask(f'+Origin: {origin}')
                for origin in (
                    'https://app.example',
                    'https://APP.example:443',
                    'http://[::1]:8000',
                )
            ),
        ),
        options=LISTED,
    ),
    request_row(
        'request-origin-not-listed',
        '10.2',
        'and no others',
        refused(
            403,
            *(
                ask(f'+Origin: {origin}')
                for origin in (
                    'http://app.example',
                    'https://app.example:8443',
                    'https://app.example.',
                    'https://xapp.example',
                    'https://x.app.example',
                    'https://app.example.evil.example',
                    'http://[::1]',
                    'http://localhost',
                    'null',
                    '*',
                    '',
                )
            ),
        ),
        options=LISTED,
    ),
]


def target(text: str) -> bytes:
    return start(f'GET {text} HTTP/1.1')


TARGETS = [
    *(
        request_row(
            f'request-target-{name}',
            section,
            requirement,
            welcomed(target(text), path=path, query=query),
        )
        for name, section, requirement, text, path, query in (
            ('path', '3', 'a path and a query', '/a/b?c=d', '/a/b', 'c=d'),
            ('query', '3', 'an empty query', '/a?', '/a', ''),
            ('queries', '3', 'a query with ?', '/?a?b', '/', 'a?b'),
            ('slashes', '3', 'a path with //', '//a//b', '//a//b', ''),
            ('dots', '3', 'dots are left alone', '/a/../b', '/a/../b', ''),
            ('escapes', '3', 'so are escapes', '/%00%2f%', '/%00%2f%', ''),
            (
                'delimiters',
                '3',
                'all that is printable, but for #',
                '/!"$%&\'()*+,-.:;<=>@[\\]^_`{|}~?!',
                '/!"$%&\'()*+,-.:;<=>@[\\]^_`{|}~',
                '!',
            ),
            (
                'absolute',
                'RFC 9112 3.2.2',
                'absolute-form is taken',
                'http://localhost/a?b',
                '/a',
                'b',
            ),
            (
                'absolute-ws',
                '4.1',
                'so it is with ws:',
                'WS://localhost:80/a',
                '/a',
                '',
            ),
            (
                'absolute-empty',
                'RFC 9110 4.2.3',
                'an empty path is /',
                'http://localhost',
                '/',
                '',
            ),
            (
                'absolute-empty-query',
                'RFC 9110 4.2.3',
                'an empty path is /',
                'https://localhost?b',
                '/',
                'b',
            ),
        )
    ),
    request_row(
        'request-target-junk',
        'RFC 9112 3.2',
        'other forms are 400: asterisk, authority, a fragment, nothing',
        refused(
            400,
            *(
                target(text)
                for text in (
                    '*',
                    'localhost',
                    'localhost:80',
                    'a/b',
                    '?a',
                    '#',
                    '/#',
                    '/a#b',
                    'http://localhost/#a',
                    'http:/localhost/',
                    'http:///',
                    'http://',
                    'http://user@localhost/',
                    'http://user:pass@localhost/',
                    'http://a b/',
                    'http://[::1/',
                    'http://localhost:x/',
                    'ftp://localhost/',
                    'file:///',
                    'javascript:alert(1)',
                    '\\',
                    '',
                    '/a b',
                    '/caf\xe9',
                    '/\x7f',
                    '/\x1b[31m',
                    '/\t',
                )
            ),
            ask('-Host', start='GET http://localhost/ HTTP/1.1'),
        ),
    ),
    request_row(
        'request-location',
        '4.2.2',
        'a path that is not served is 404',
        refused(
            404,
            *(
                target(text)
                for text in (
                    '/',
                    '/chat/',
                    '/Chat',
                    '/chatty',
                    '/cha',
                    '//chat',
                    '/./chat',
                    '/x/../chat',
                    '/%63hat',
                    '/chat%00',
                    '/chat;a',
                    'http://localhost',
                    'http://localhost/x?/chat',
                )
            ),
        ),
        options={'locations': ('/chat',)},
    ),
    request_row(
        'request-location-good',
        '4.2.2',
        'one that is opens, whatever its query',
        welcomed(
            target('/chat'),
            target('/chat?'),
            target('/chat?/x'),
            target('http://localhost/chat?x'),
            location='/chat',
        ),
        options={'locations': ('/chat',)},
    ),
]

ROWS = [
    *START,
    *FIELDS,
    *KEYS,
    *VERSIONS,
    *PROTOCOLS,
    *BODIES,
    *ORIGINS,
    *TARGETS,
]
