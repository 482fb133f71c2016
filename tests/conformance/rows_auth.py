"""Who asks and who answers for a password: Basic (RFC 7617) and Digest (RFC
7616)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from conformance.opening import (
    SPLITS,
    Asked,
    Welcomed,
    answer_row,
    ask,
    check_refusal,
    reply,
    request_row,
    send_head,
)
from conformance.roles import SOON, End
from conformance.script import Variants, check_lives
from conformance.table import WHOLE
from credentials import HASHES, basic, challenges, digest
from rawpeer import RawPeer, accept_key, read_request

import twspy
from twspy import HA1, BasicAuth, DigestAuth

USERS = {'ada': 'love:lace', 'grüße': 'pässwort €', 'quo"te\\': 'x', '': 'y'}
BASIC = {'auth': BasicAuth(lambda u, p: USERS.get(u) == p, 'rows basic')}
DIGEST = {'auth': DigestAuth(USERS.get, 'rows digest')}
HASHED = {
    'auth': DigestAuth(
        lambda u: HA1.of(u, 'rows ha1', USERS[u]) if u in USERS else None,
        'rows ha1',
        algorithms=('SHA-256',),
    )
}
ONLY_MD5 = {'auth': DigestAuth(USERS.get, 'rows md5', algorithms=('MD5',))}


def with_field(value: str | None, *edits: str, path: str = '/') -> bytes:
    if value is not None:
        edits = (*edits, '+Authorization: ' + value.encode().decode('latin-1'))
    return ask(*edits, start=f'GET {path} HTTP/1.1')


# -------------------------------------------------------------------- servers


def read_refusal(peer: RawPeer) -> tuple[int, list[str], str]:
    """The status, all challenges and the body."""
    while b'\r\n\r\n' not in peer.buffer:
        peer.read_more()
    lines = peer.buffer.partition(b'\r\n\r\n')[0].decode('latin-1')
    values = re.findall('\r\nWWW-Authenticate: ([^\r]*)', lines)
    status, head, body = peer.read_answer()
    check_refusal(status, head, body)
    return status, values, body


@dataclass(frozen=True)
class Denied:
    """A refusal. Of a 401 the challenges are those of the server, new ones,
    and say `stale` where it is that."""

    status: int
    schemes: tuple[str, ...]
    stale: bool = False

    def __call__(self, end: End) -> None:
        status, values, body = read_refusal(end.peer)
        assert status == self.status, (status, body)
        assert not end.program.opened.is_set()
        if status != 401:
            assert values == []
            return
        assert tuple(kind_of(value) for value in values) == self.schemes
        assert all(('stale=true' in v) is self.stale for v in values), values
        for secret in ('ada', 'love:lace', 'nobody'):
            assert secret not in body


def kind_of(value: str) -> str:
    if value == 'Basic realm="rows basic", charset="UTF-8"':
        return 'Basic'
    found = re.fullmatch(
        r'Digest realm="rows \w+", qop="auth", algorithm=(SHA-256|MD5), '
        r'nonce="[0-9A-Za-z+/=_-]{16,}", charset=UTF-8(, stale=true)?',
        value,
    )
    assert found, value
    return found[1]


def denied(
    status: int, *values: str | None, schemes: tuple[str, ...] = ('Basic',)
) -> Variants:
    check = Denied(status, schemes)
    return Variants(tuple(Asked(with_field(v), check) for v in values))


def named(name: str, *values: str) -> Variants:
    """Each opens a connection, of the user with that name."""
    check = Welcomed(seen={'username': name})
    return Variants(tuple(Asked(with_field(v), check) for v in values))


def coded(text: bytes) -> str:
    return 'Basic ' + base64.b64encode(text).decode()


GOOD = basic('ada', 'love:lace')
BASICS = [
    request_row(
        'basic-challenge',
        'RFC 7617 2',
        'without credentials it is 401, with a challenge',
        denied(401, None),
        options=BASIC,
    ),
    request_row(
        'basic-right',
        'RFC 7617 2',
        'the right password opens a connection; it may hold a colon',
        named(
            'ada',
            GOOD,
            GOOD.replace('Basic', 'basic'),
            GOOD.replace('Basic ', 'BASIC  '),
            f'  {GOOD}\t',
        ),
        options=BASIC,
    ),
    request_row(
        'basic-utf-8',
        'RFC 7617 2.1',
        'names and passwords are UTF-8',
        named('grüße', basic('grüße', 'pässwort €')),
        options=BASIC,
    ),
    request_row(
        'basic-odd-names',
        'RFC 7617 2',
        'a name may be anything without a colon',
        named('quo"te\\', basic('quo"te\\', 'x')),
        options=BASIC,
    ),
    request_row(
        'basic-wrong',
        'RFC 7617 2',
        'a wrong one, and an unknown user, get the same 401',
        denied(
            401,
            basic('ada', ''),
            basic('ada', 'love:lac'),
            basic('ada', 'love:lace '),
            basic('ada', 'LOVE:LACE'),
            basic('Ada', 'love:lace'),
            basic('ada ', 'love:lace'),
            basic('nobody', 'love:lace'),
            coded('grüße:pässwort €'.encode('cp1252')),
            coded(b'ada'),
            coded(b'ada:love:lace\0'),
            coded(b'ada\0:love:lace'),
            coded(b'ada:love:lace\r\n'),
        ),
        options=BASIC,
    ),
    request_row(
        'basic-junk',
        'RFC 7617 2',
        'credentials that are not base64, or of another scheme, are 401',
        denied(
            401,
            'Basic',
            'Basic YQ',
            'Basic YTp=',
            'Basic ' + GOOD[6:-1],
            GOOD + '=',
            'Basic YWRhOmxvdmU6bGFjZQ=',
            'Bearer ' + GOOD[6:],
            'Digest ' + GOOD[6:],
            'Basic2 ' + GOOD[6:],
            'Negotiate YTpi',
            'Basic realm="rows basic"',
        ),
        options=BASIC,
    ),
    request_row(
        'basic-malformed',
        'RFC 9110 11.4',
        'what are no credentials at all is 400',
        denied(
            400,
            '',
            '=',
            ',',
            ',' + GOOD,
            GOOD + ', ' + GOOD,
            GOOD + ' x',
            'Basic YTpi!',
            'Basic ====',
            'Basic\x0c'.replace('\x0c', '"'),
            '"Basic" YTpi',
            'Basic YTpi, Digest a=b',
            'Basic é',
            'Digest a="b',
        ),
        options=BASIC,
    ),
    request_row(
        'basic-twice',
        'RFC 9110 11.6.2',
        'two fields are 400',
        Variants(
            tuple(
                Asked(
                    with_field(GOOD, f'+Authorization: {o}'), Denied(400, ())
                )
                for o in (GOOD, '', 'Basic YTpi')
            )
        ),
        options=BASIC,
    ),
    request_row(
        'basic-in-vain',
        'RFC 6455 4.2.2',
        'the right password does not make up for a wrong request',
        Variants(
            tuple(
                Asked(with_field(GOOD, edit), Denied(status, ()))
                for edit, status in (
                    ('-Sec-WebSocket-Key', 400),
                    ('Sec-WebSocket-Version: 8', 426),
                    ('Connection: close', 400),
                    ('+Content-Length: 5', 400),
                )
            )
        ),
        options=BASIC,
    ),
    request_row(
        'basic-not-asked',
        'RFC 9110 11.6.2',
        'a server that does not ask looks at no credentials',
        Variants(
            tuple(
                Asked(with_field(v), Welcomed())
                for v in (GOOD, 'Basic', '=', 'Basic é')
            )
        ),
    ),
]


def again(end: End) -> End:
    return End(end.harness, end.role, end.split, None, end.options)


def asked(
    end: End, value: str | None, path: str = '/'
) -> tuple[int, list[str], str]:
    """A request that is refused, on a connection of its own."""
    with again(end) as one:
        one.connect()
        send_head(one, with_field(value, path=path))
        got = read_refusal(one.peer)
        assert not one.program.opened.is_set()
        return got


def let_in(end: End, value: str, name: str, path: str = '/') -> None:
    with again(end) as one:
        one.connect()
        send_head(one, with_field(value, path=path))
        Welcomed(seen={'username': name})(one)


def challenge(end: End, algorithm: str = 'SHA-256') -> dict[str, str]:
    """A new one."""
    status, values, _ = asked(end, None)
    assert status == 401
    return challenges(values)[algorithm]


Way = Callable[[End], None]


def digest_right(algorithm: str) -> Way:
    def run(end: End) -> None:
        for name in ('ada', ''):
            given = challenge(end, algorithm)
            for count, path in enumerate(('/', '/a?b=c', '/a,b;c='), 1):
                nc = f'{count:08x}'
                value = digest(given, name, USERS[name], uri=path, nc=nc)
                let_in(end, value, name, path)

    return run


def digest_utf8(end: End) -> None:
    """username* (RFC 7616 section 3.4.4), and quoted pairs."""
    given = challenge(end)
    value = digest(
        given,
        'grüße',
        USERS['grüße'],
        change={'username': None, 'username*': "UTF-8''gr%C3%BC%C3%9Fe"},
    )
    let_in(end, value, 'grüße')
    let_in(end, digest(challenge(end), 'grüße', USERS['grüße']), 'grüße')
    value = digest(
        challenge(end),
        'quo"te\\',
        'x',
        change={'username': '"quo\\"te\\\\"'},
    )
    let_in(end, value, 'quo"te\\')


def digest_form(end: End) -> None:
    """Order, white space, case and quotes are the client's (RFC 9110)."""
    for change in (
        lambda v: v.replace('Digest ', 'digest   '),
        lambda v: v.replace(', ', ','),
        lambda v: v.replace(', ', '\t,\t'),
        lambda v: v.replace('qop=auth', 'qop="auth"'),
        lambda v: v.replace('algorithm=SHA-256', 'algorithm="sha-256"'),
        lambda v: v.replace('username=', 'USERNAME ='),
        lambda v: 'Digest ' + ', '.join(reversed(v[7:].split(', '))),
        lambda v: v + ', unknown=1, other="a, b"',
        lambda v: v + ', userhash=false',
    ):
        value = digest(challenge(end), 'ada', USERS['ada'])
        let_in(end, change(value), 'ada')


def digest_replay(end: End) -> None:
    """RFC 7616 section 5.5: credentials are good once."""
    given = challenge(end)
    value = digest(given, 'ada', USERS['ada'])
    let_in(end, value, 'ada')
    for _ in range(3):
        status, values, _ = asked(end, value)
        assert status == 401
        assert all(v.endswith(', stale=true') for v in values)
    # The next count of the same nonce is another matter.
    let_in(end, digest(given, 'ada', USERS['ada'], nc='00000002'), 'ada')
    let_in(end, digest(given, 'ada', USERS['ada'], nc='0000000a'), 'ada')
    assert (
        asked(end, digest(given, 'ada', USERS['ada'], nc='00000002'))[0] == 401
    )
    # So is a new challenge.
    let_in(end, digest(challenge(end), 'ada', USERS['ada']), 'ada')


def digest_nonces(end: End) -> None:
    """Each challenge has a nonce of its own; others are stale."""
    nonces = {challenge(end)['nonce'] for _ in range(8)}
    assert len(nonces) == 8
    good = challenge(end)
    for nonce in ('', 'x', 'A' * len(good['nonce']), good['nonce'][:-4]):
        fake = good | {'nonce': nonce}
        status, values, _ = asked(end, digest(fake, 'ada', USERS['ada']))
        assert status == 401, nonce
        assert len(values) == 2


def digest_wrong(end: End) -> None:
    """A wrong password and an unknown user get the same 401."""
    seen = set()
    for name, password in (
        ('ada', 'guess'),
        ('ada', ''),
        ('nobody', USERS['ada']),
        ('Ada', USERS['ada']),
        ('nobody', ''),
    ):
        value = digest(challenge(end), name, password)
        status, values, body = asked(end, value)
        assert [kind_of(v) for v in values] == ['SHA-256', 'MD5']
        assert not any('stale' in v for v in values)
        seen.add((status, body))
    assert len(seen) == 1
    assert seen.pop()[0] == 401


WRONG: list[tuple[Mapping[str, str | None], int]] = [
    ({'response': '"' + '0' * 64 + '"'}, 401),
    ({'realm': '"other"'}, 401),
    ({'algorithm': 'MD5-sess'}, 401),
    ({'algorithm': 'SHA-256-sess'}, 401),
    ({'algorithm': 'SHA-512-256'}, 401),
    ({'algorithm': '"MD5"'}, 401),
    ({'algorithm': None}, 401),
    ({'nonce': None}, 400),
    ({'username': None}, 400),
    ({'realm': None}, 400),
    ({'uri': None}, 400),
    ({'response': None}, 400),
    ({'cnonce': None}, 400),
    ({'nc': None}, 400),
    ({'qop': None}, 400),
    ({'qop': 'auth-int'}, 400),
    ({'qop': '"auth,auth-int"'}, 400),
    ({'qop': 'x'}, 400),
    ({'nc': '1'}, 400),
    ({'nc': '00000000'}, 400),
    ({'nc': '0000000g'}, 400),
    ({'nc': '000000001'}, 400),
    ({'nc': '0x000001'}, 400),
    ({'uri': '"/other"'}, 400),
    ({'uri': '"*"'}, 400),
    ({'uri': '""'}, 400),
    ({'response': '"x"'}, 401),
    ({'response': '""'}, 401),
    ({'username*': "UTF-8''ada"}, 400),
    ({'username': None, 'username*': 'ada'}, 400),
    ({'username': None, 'username*': "UTF-8''%zz"}, 400),
    ({'username': None, 'username*': "iso-8859-1''ada"}, 400),
    ({'username': None, 'username*': "UTF-8''%FF"}, 400),
    ({'userhash': 'true'}, 400),
    ({'nc ': '00000002'}, 400),
]


def digest_junk(end: End) -> None:
    """Each is refused, and the nonce is as good as before."""
    for change, expected in WRONG:
        given = challenge(end)
        value = digest(given, 'ada', USERS['ada'], change=change)
        status, values, body = asked(end, value)
        assert status == expected, (change, status, body)
        assert len(values) == (2 if status == 401 else 0)
        let_in(end, digest(given, 'ada', USERS['ada']), 'ada')


def digest_mixed(end: End) -> None:
    """What was computed by one algorithm is no response by another, nor is
    what is cut to its length."""
    for made, claimed in (('SHA-256', 'MD5'), ('MD5', 'SHA-256')):
        given = challenge(end, made)
        value = digest(given, 'ada', USERS['ada'])
        response = re.findall('response="(.*?)"', value)[0]
        assert response
        for shown in (response, response[:32], response * 2):
            value = digest(
                given,
                'ada',
                USERS['ada'],
                change={'algorithm': claimed, 'response': f'"{shown}"'},
            )
            assert asked(end, value)[0] in (400, 401)


def digest_ha1(end: End) -> None:
    status, values, _ = asked(end, None)
    assert [kind_of(v) for v in values] == ['SHA-256']
    for name in ('ada', ''):
        let_in(end, digest(challenge(end), name, USERS[name]), name)
    bodies = set()
    for name in ('ada', 'nobody'):
        value = digest(challenge(end), name, 'guess')
        status, _, body = asked(end, value)
        assert status == 401
        bodies.add(body)
    assert len(bodies) == 1
    md5 = challenge(end) | {'algorithm': 'MD5'}
    assert asked(end, digest(md5, 'ada', USERS['ada']))[0] == 401


def digest_only_md5(end: End) -> None:
    """Without `algorithm` it is MD5 (RFC 7616 section 3.4)."""
    given = challenge(end, 'MD5')
    value = digest(given, 'ada', USERS['ada'], change={'algorithm': None})
    let_in(end, value, 'ada')
    sha = challenge(end, 'MD5') | {'algorithm': 'SHA-256'}
    assert asked(end, digest(sha, 'ada', USERS['ada']))[0] == 401


DIGESTS = [
    request_row(
        'digest-challenge',
        'RFC 7616 3.3',
        'a challenge for each algorithm, the best first; Basic is none',
        denied(
            401,
            None,
            GOOD,
            'Bearer x',
            schemes=('SHA-256', 'MD5'),
        ),
        options=DIGEST,
    ),
    *(
        request_row(
            f'digest-{name}',
            f'RFC 7616 {section}',
            words,
            run,
            options=options,
            splits=splits,
        )
        for name, section, words, run, options, splits in (
            (
                'right-sha-256',
                '3.4',
                'the right response opens',
                digest_right('SHA-256'),
                DIGEST,
                SPLITS,
            ),
            (
                'right-md5',
                '3.4',
                'so it does with MD5',
                digest_right('MD5'),
                DIGEST,
                SPLITS,
            ),
            (
                'utf-8',
                '3.4.4',
                'names are UTF-8, and may be escaped',
                digest_utf8,
                DIGEST,
                SPLITS,
            ),
            (
                'form',
                '3.4',
                'order, case, quotes and white space are free',
                digest_form,
                DIGEST,
                SPLITS,
            ),
            (
                'replay',
                '5.5',
                'credentials are good once',
                digest_replay,
                DIGEST,
                (WHOLE,),
            ),
            (
                'nonces',
                '3.3',
                'nonces are unique; others are 401',
                digest_nonces,
                DIGEST,
                (WHOLE,),
            ),
            (
                'wrong',
                '5.2',
                'wrong and unknown get the same 401',
                digest_wrong,
                DIGEST,
                (WHOLE,),
            ),
            (
                'junk',
                '3.4',
                'what is missing or malformed is refused',
                digest_junk,
                DIGEST,
                (WHOLE,),
            ),
            (
                'mixed',
                '3.7',
                'algorithms can not be mixed',
                digest_mixed,
                DIGEST,
                (WHOLE,),
            ),
            (
                'ha1',
                '3.4.2',
                'a server may know hashes only',
                digest_ha1,
                HASHED,
                (WHOLE,),
            ),
            (
                'only-md5',
                '3.4',
                'no algorithm is MD5',
                digest_only_md5,
                ONLY_MD5,
                (WHOLE,),
            ),
        )
    ),
]

# -------------------------------------------------------------------- clients

ADA = {'auth': ('ada', 'love:lace')}


def asking(*values: str, status: int = 401) -> bytes:
    lines = [f'WWW-Authenticate: {value}' for value in values]
    text = [f'HTTP/1.1 {status} Who', *lines, 'Content-Length: 0', '', '']
    return '\r\n'.join(text).encode('latin-1')


def converse(
    end: End, answers: list[bytes], opens: bool, errors: int | None = 401
) -> list[dict[str, str]]:
    """Answer one request after the other; the last answer is 101 (`opens`),
    or our client gives up with a HandshakeError. Nothing else is asked."""
    end.connect()
    heads = []
    for number, data in enumerate(answers):
        if number > 0:
            sock, _ = end.harness.listener.accept()
            end.peer = RawPeer(sock, SOON)
        _, head = read_request(end.peer)
        heads.append(head)
        accept = accept_key(head).encode()
        send_head(end, data.replace(b'{accept}', accept))
        if not opens or number < len(answers) - 1:
            with suppress(OSError):
                end.peer.close()
    if opens:
        check_lives_now(end)
        return heads
    end.join()
    assert isinstance(end.failure, twspy.HandshakeError), repr(end.failure)
    assert end.failure.status == errors
    assert 'lace' not in str(end.failure)
    end.harness.listener.settimeout(0)
    try:
        end.harness.listener.accept()
    except BlockingIOError:
        return heads
    finally:
        end.harness.listener.settimeout(SOON)
    raise AssertionError('our client asks once more')


def check_lives_now(end: End) -> None:
    assert end.connection.state is not None
    check_lives(end)


def fields(value: str) -> dict[str, str]:
    """Of Digest credentials, quoted pairs resolved."""
    assert value.startswith('Digest ')
    found = re.findall(r'([\w*]+)=(?:"((?:[^"\\]|\\.)*)"|([^", ]+))', value)
    return {n: re.sub(r'\\(.)', r'\1', q) or plain for n, q, plain in found}


def check_digest(
    value: str,
    algorithm: str,
    nonce: str,
    user: str,
    password: str,
    realm: str = 'x',
    nc: str = '00000001',
) -> dict[str, str]:
    got = fields(value)

    def h(text: str) -> str:
        return HASHES[algorithm](text.encode()).hexdigest()

    ha1 = h(f'{user}:{realm}:{password}')
    ha2 = h('GET:/')
    expected = h(f'{ha1}:{nonce}:{nc}:{got["cnonce"]}:auth:{ha2}')
    assert got['response'] == expected, got
    assert (got['realm'], got['nonce'], got['nc']) == (realm, nonce, nc)
    assert (got['uri'], got['qop']) == ('/', 'auth')
    assert len(got['cnonce']) >= 16
    return got


def client_basic(end: End) -> None:
    heads = converse(end, [asking('Basic realm="x"'), reply()], True)
    assert 'authorization' not in heads[0]
    assert heads[1]['authorization'] == GOOD
    assert heads[0]['sec-websocket-key'] != heads[1]['sec-websocket-key']


def client_unasked(end: End) -> None:
    """A server that opens has not asked for a password."""
    (head,) = converse(end, [reply()], True)
    assert 'authorization' not in head


def client_once(end: End) -> None:
    heads = converse(end, [asking('Basic realm="x"')] * 2, False)
    assert [h.get('authorization') for h in heads] == [None, GOOD]


SHA = 'Digest realm="x", nonce="n1", qop="auth", algorithm=SHA-256'
MD5 = 'Digest realm="x", nonce="n2", qop="auth", algorithm=MD5'
BASE = 'Basic realm="x"'


def client_picks(end: End) -> None:
    """The strongest of what is offered, in whatever order and fields."""
    for values, wanted in (
        ((BASE, MD5, SHA), 'SHA-256'),
        ((SHA, MD5, BASE), 'SHA-256'),
        ((f'{BASE}, {SHA}, {MD5}',), 'SHA-256'),
        ((f'{MD5}, {BASE}',), 'MD5'),
        ((BASE, MD5), 'MD5'),
        (('Negotiate', 'Bearer realm="x"', BASE), 'Basic'),
        (('Negotiate a==, ' + BASE,), 'Basic'),
        ((',, ,' + BASE + ',',), 'Basic'),
        ((SHA.replace('SHA-256', 'SHA-512-256'), BASE), 'Basic'),
        ((SHA.replace('"auth"', '"auth-int"'), BASE), 'Basic'),
        ((SHA.replace('"auth"', '"auth-int, auth"'), BASE), 'SHA-256'),
        ((SHA.replace(', qop="auth"', ''), BASE), 'Basic'),
        ((MD5.replace(', algorithm=MD5', ''),), 'MD5'),
        ((SHA.replace('SHA-256', 'SHA-256-sess'), MD5), 'MD5'),
        ((SHA.replace('Digest', 'DIGEST').replace('SHA', 'sha'),), 'SHA-256'),
        (('Basic realm="a, Digest b=\\"c"', MD5), 'MD5'),
    ):
        with again(end) as one:
            heads = converse(one, [asking(*values), reply()], True)
            value = heads[1]['authorization']
            if wanted == 'Basic':
                assert value == GOOD, values
                continue
            nonce = 'n1' if wanted == 'SHA-256' else 'n2'
            check_digest(value, wanted, nonce, 'ada', 'love:lace')


def client_can_not(end: End) -> None:
    """No challenge that it knows: it gives up, and says nothing."""
    for values in (
        (),
        ('',),
        (',,,',),
        ('Negotiate',),
        ('Bearer realm="x"',),
        ('Digest',),
        ('Digest realm="x"',),
        (SHA.replace('nonce="n1", ', ''),),
        (SHA.replace('realm="x", ', ''),),
        (SHA.replace(', qop="auth"', ''),),
        (SHA + ', nonce="n3"',),
        (SHA.replace('"auth"', '"auth'),),
        ('Basic realm="x',),
        ('="x"',),
        ('\xff',),
    ):
        with again(end) as one:
            (head,) = converse(one, [asking(*values)], False)
            assert 'authorization' not in head


def client_stale(end: End) -> None:
    """A stale nonce is another try, with the new one; not for ever."""
    values = [
        SHA.replace('n1', f'n{n}') + (', stale=true' if n else '')
        for n in range(3)
    ]
    heads = converse(end, [*(asking(v) for v in values[:2]), reply()], True)
    for head, nonce in zip(heads[1:], ('n0', 'n1'), strict=True):
        check_digest(
            head['authorization'], 'SHA-256', nonce, 'ada', 'love:lace'
        )
    with again(end) as one:
        # Without stale it is the password that is wrong.
        converse(one, [asking(values[0])] * 2, False)
    with again(end) as one:
        heads = converse(one, [asking(v) for v in values], False)
        assert len(heads) == 3


def client_echoes(end: End) -> None:
    """opaque and realm come back as they were, quotes and all."""
    value = (
        'Digest realm="a \\"b\\\\", nonce="n,1=", opaque="o;\\"p", '
        'qop="auth", algorithm=SHA-256, domain="/", charset=UTF-8'
    )
    heads = converse(end, [asking(value), reply()], True)
    got = check_digest(
        heads[1]['authorization'],
        'SHA-256',
        'n,1=',
        'ada',
        'love:lace',
        'a "b\\',
    )
    assert got['opaque'] == 'o;"p'
    assert got['username'] == 'ada'
    assert got['algorithm'] == 'SHA-256'


def client_userhash(end: End) -> None:
    heads = converse(end, [asking(SHA + ', userhash=true'), reply()], True)
    got = check_digest(
        heads[1]['authorization'], 'SHA-256', 'n1', 'ada', 'love:lace'
    )
    assert got['username'] == hashlib.sha256(b'ada:x').hexdigest()
    assert got['userhash'] == 'true'


def client_utf8(end: End) -> None:
    heads = converse(end, [asking(SHA + ', charset=UTF-8'), reply()], True)
    value = heads[1]['authorization']
    got = check_digest(value, 'SHA-256', 'n1', 'grüße', 'pässwort €')
    assert got['username*'] == "UTF-8''gr%C3%BC%C3%9Fe"
    assert 'username' not in got
    with again(end) as one:
        heads = converse(one, [asking(BASE), reply()], True)
        assert heads[1]['authorization'] == basic('grüße', 'pässwort €')


def client_statuses(end: End) -> None:
    """Only a 401 asks; a challenge elsewhere says nothing."""
    for status in (200, 400, 403, 407, 426, 500):
        with again(end) as one:
            data = asking(BASE, status=status)
            (head,) = converse(one, [data], False, status)
            assert 'authorization' not in head


def client_elsewhere(end: End) -> None:
    """Another origin gets no credentials, though it asks (a redirect to
    another name of the same server)."""
    port = end.harness.listener.getsockname()[1]
    moved = (
        b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\n'
        b'Location: ws://localhost:%d/\r\n\r\n' % port
    )
    heads = converse(end, [asking(BASE), moved, asking(BASE)], False)
    assert [h.get('authorization') for h in heads] == [None, GOOD, None]
    assert heads[2]['host'] == f'localhost:{port}'
    with again(end) as one:
        heads = converse(one, [moved, asking(SHA, BASE)], False)
        assert all('authorization' not in head for head in heads)


def client_here(end: End) -> None:
    """A redirect within the origin may ask, and is answered."""
    port = end.harness.listener.getsockname()[1]
    moved = (
        b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\n'
        b'Location: ws://127.0.0.1:%d/\r\n\r\n' % port
    )
    heads = converse(end, [moved, asking(BASE), reply()], True)
    assert [h.get('authorization') for h in heads] == [None, None, GOOD]


def client_without(end: End) -> None:
    (head,) = converse(end, [asking(SHA, BASE)], False)
    assert 'authorization' not in head


GRUSS = {'auth': ('grüße', 'pässwort €')}
CLIENTS = [
    answer_row(
        f'client-{name}', section, words, run, options=options, splits=(WHOLE,)
    )
    for name, section, words, run, options in (
        (
            'basic',
            'RFC 7617 2',
            'credentials are sent once they are asked for',
            client_basic,
            ADA,
        ),
        ('unasked', 'RFC 9110 11.6.2', 'and not before', client_unasked, ADA),
        (
            'without',
            'RFC 9110 11.6.1',
            'a client without credentials gives up',
            client_without,
            {},
        ),
        (
            'once',
            'RFC 9110 15.5.2',
            'credentials that are refused are not sent again',
            client_once,
            ADA,
        ),
        (
            'picks',
            'RFC 7616 3.7',
            'the strongest scheme is answered',
            client_picks,
            ADA,
        ),
        (
            'can-not',
            'RFC 9110 11.6.1',
            'challenges that are not known are not answered',
            client_can_not,
            ADA,
        ),
        (
            'stale',
            'RFC 7616 3.3',
            'stale nonces are tried again',
            client_stale,
            ADA,
        ),
        (
            'echoes',
            'RFC 7616 3.4',
            'realm, nonce and opaque come back',
            client_echoes,
            ADA,
        ),
        (
            'userhash',
            'RFC 7616 3.4.4',
            'names are hashed where that is asked for',
            client_userhash,
            ADA,
        ),
        (
            'utf-8',
            'RFC 7616 3.4',
            'names and passwords are UTF-8',
            client_utf8,
            GRUSS,
        ),
        ('statuses', 'RFC 9110 11.6.1', 'only 401 asks', client_statuses, ADA),
        (
            'elsewhere',
            'RFC 7617 2.2',
            'another origin gets no credentials',
            client_elsewhere,
            ADA,
        ),
        ('here', 'RFC 7617 2.2', 'the same origin does', client_here, ADA),
    )
]

ROWS = [*BASICS, *DIGESTS, *CLIENTS]
