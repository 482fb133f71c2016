"""Passwords go to who has asked for them, and to nobody else: not to another
origin, not past encryption, and not into a log; and what a server does with
them takes the same way whoever the user is."""

from __future__ import annotations

import base64
import itertools
import logging
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificates
from credentials import basic, challenges, digest
from listeners import tls_server
from ports import free_port
from proxies import HttpProxy, Proxy, SocksProxy
from rawends import answer
from rawpeer import RawPeer, request
from rawservers import (
    Asked,
    RawServer,
    redirect,
    response,
    say,
    serving,
    welcome,
)
from servers import EchoServer

import twspy

ROOT = Path(__file__).resolve().parents[2]
SECRET = 'sesame-4711'
FIELDS = {
    'Authorization': f'Bearer {SECRET}',
    'Cookie': f'session={SECRET}',
    'Proxy-Authorization': f'Basic {SECRET}',
    'X-Harmless': 'y',
}


def wants(scheme: str) -> Callable[[RawPeer, Asked], object]:
    """Lets in who answers its challenge, with whatever."""
    extra = ', nonce="n", qop="auth"' if scheme == 'Digest' else ''
    challenge = f'{scheme} realm="r"{extra}'

    def react(peer: RawPeer, asked: Asked) -> None:
        if 'authorization' in asked.head:
            welcome(peer, asked)
        else:
            say(response(401, WWW_Authenticate=challenge))(peer, asked)

    return react


def secrets_in(server: RawServer) -> list[str]:
    """Fields in which a secret came, as it is or in another form."""
    forms = [SECRET, base64.b64encode(f'user:{SECRET}'.encode()).decode()]
    return [
        name
        for asked in server.requests
        for name, value in asked.head.items()
        if name == 'authorization' or any(form in value for form in forms)
    ]


def with_user(url: str) -> str:
    return url.replace('//', f'//user:{SECRET}@')


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
@pytest.mark.parametrize('scheme', ['Basic', 'Digest'])
def test_another_origin_gets_none(scheme: str, status: int) -> None:
    """Not even where it asks: another port is another origin."""
    with serving(wants(scheme)) as other:

        def react(peer: RawPeer, asked: Asked) -> None:
            say(redirect(f'{other.url}/x?y=z', status))(peer, asked)

        with serving(react) as server:
            for given in (
                {'auth': ('user', SECRET)},
                {'headers': FIELDS},
                {},
            ):
                url = server.url if given else with_user(server.url)
                with pytest.raises(twspy.HandshakeError) as caught:
                    twspy.connect(url, **given)  # type: ignore[arg-type]
                assert caught.value.status == 401
                assert SECRET not in str(caught.value)
        assert len(other.requests) == 3
        assert secrets_in(other) == []
        assert other.requests[1].head['x-harmless'] == 'y'


def test_the_same_host_by_another_name_is_another_origin() -> None:
    with serving(wants('Basic')) as other:
        name = f'ws://localhost:{other.port}'
        with serving(lambda p, a: say(redirect(f'{name}/'))(p, a)) as server:
            with pytest.raises(twspy.HandshakeError):
                twspy.connect(with_user(server.url))
        assert other.targets == ['/']
        assert secrets_in(other) == []


def test_coming_back_brings_none_back() -> None:
    """A detour by another origin does not have the first one trusted anew:
    what was left behind stays behind."""
    with serving(lambda p, a: say(redirect(f'{first}/back'))(p, a)) as other:

        def react(peer: RawPeer, asked: Asked) -> None:
            if asked.target == '/back':
                wants('Basic')(peer, asked)
            else:
                say(redirect(f'{other.url}/x'))(peer, asked)

        with serving(react) as server:
            first = server.url
            with pytest.raises(twspy.HandshakeError):
                twspy.connect(server.url, headers=FIELDS)
        assert secrets_in(other) == []
        assert server.targets == ['/', '/back']
        assert 'cookie' not in server.requests[1].head


def test_none_is_sent_before_it_is_asked_for() -> None:
    with serving(wants('Basic')) as server:
        with twspy.connect(with_user(server.url), close_timeout=0):
            pass
    heads = [asked.head for asked in server.requests]
    assert ['authorization' in head for head in heads] == [False, True]


def test_encryption_is_never_given_up(certificates: Certificates) -> None:
    with serving(welcome) as plain:

        def react(peer: RawPeer, head: dict[str, str]) -> None:
            peer.send(redirect(f'{plain.url}/'))

        context = certificates.server_context()
        with tls_server(context, react) as address:
            with pytest.raises(twspy.HandshakeError, match='encrypted'):
                twspy.connect(
                    f'wss://user:{SECRET}@localhost:{address[1]}/',
                    ssl_args={'cafile': certificates.cafile},
                )
        assert plain.requests == []


# --- proxies ---


@pytest.mark.parametrize('kind', [HttpProxy, SocksProxy])
def test_through_a_proxy_tls_begins_at_once(
    kind: type[Proxy], certificates: Certificates
) -> None:
    """What passes through the proxy is TLS from its first byte, 0x16, and no
    byte of the request or of a message can be read in it."""
    context = certificates.server_context()

    def react(peer: RawPeer, head: dict[str, str]) -> None:
        peer.send(answer(head) + b'\x81\x06secret')
        peer.read_frame()

    with tls_server(context, react) as (_, port), kind() as proxy:
        url = f'wss://localhost:{port}/path?{SECRET}'
        with twspy.connect(
            url,
            proxy=proxy.url,
            headers=FIELDS,
            close_timeout=0,
            ssl_args={'cafile': certificates.cafile},
        ) as connection:
            assert connection.recv().payload == 'secret'
            connection.send(SECRET)
        (tunnel,) = proxy.tunnels
    assert tunnel.opened
    assert tunnel.early == b''
    assert tunnel.sent[:2] == b'\x16\x03'
    assert tunnel.received[:2] == b'\x16\x03'
    for data in (tunnel.sent, tunnel.received):
        for word in (SECRET, 'GET ', 'HTTP', 'secret', 'Upgrade'):
            assert word.encode() not in data
    assert not set(FIELDS) & set(tunnel.fields)
    assert SECRET not in tunnel.request_line


@pytest.mark.parametrize('scheme', ['http', 'socks5', 'socks5h'])
def test_a_proxy_and_a_server_keep_their_secrets_apart(scheme: str) -> None:
    kind = HttpProxy if scheme == 'http' else SocksProxy
    with serving(wants('Basic')) as server:
        with kind(username='proxy-user', password='proxy-word') as proxy:
            url = proxy.url.replace(f'{proxy.scheme}:', f'{scheme}:')
            with twspy.connect(
                with_user(server.url), proxy=url, close_timeout=0
            ):
                pass
            for tunnel in proxy.tunnels:
                assert tunnel.credentials == ('proxy-user', 'proxy-word')
                assert 'authorization' not in tunnel.fields
    for asked in server.requests:
        assert 'proxy-authorization' not in asked.head
    assert basic('user', SECRET) in [
        asked.head.get('authorization') for asked in server.requests
    ]


# --- what is told ---


def failures(certificates: Certificates) -> dict[str, Callable[[], object]]:
    """Ways to fail with a secret in the arguments."""
    port = free_port()
    with_secret = f'user:{SECRET}@127.0.0.1:{port}'
    return {
        'nobody listens': lambda: twspy.connect(
            f'ws://{with_secret}/?{SECRET}'
        ),
        'no URL': lambda: twspy.connect(f'ws://user:{SECRET}@a:b/'),
        'no scheme': lambda: twspy.connect(f'user:{SECRET}@a/'),
        'another scheme': lambda: twspy.connect(f'http://user:{SECRET}@a/'),
        'no host': lambda: twspy.connect(f'ws://user:{SECRET}@/'),
        'white space': lambda: twspy.connect(f'ws://user:{SECRET}@a b/'),
        'no port': lambda: twspy.connect(f'ws://user:{SECRET}@a:99999/'),
        'two users': lambda: twspy.connect(f'ws://x@user:{SECRET}@a/'),
        'both': lambda: twspy.connect(
            f'ws://{with_secret}/', auth=('user', SECRET)
        ),
        'bad option': lambda: twspy.connect(
            f'ws://{with_secret}/', open_timeout=-1
        ),
        'user with a colon': lambda: twspy.connect(
            f'ws://127.0.0.1:{port}/', auth=(f'{SECRET}:a', SECRET)
        ),
        'password of bytes': lambda: twspy.connect(
            f'ws://127.0.0.1:{port}/',
            auth=('user', SECRET.encode()),  # type: ignore[arg-type]
        ),
        'proxy': lambda: twspy.connect(
            'ws://127.0.0.1:1/', proxy=f'http://{with_secret}'
        ),
        'proxy of no kind': lambda: twspy.connect(
            'ws://127.0.0.1:1/', proxy=f'ftp://{with_secret}'
        ),
        'cookie': lambda: twspy.connect(
            f'ws://127.0.0.1:{port}/', headers={'Cookie': f'{SECRET}\n'}
        ),
        'key': lambda: twspy.connect(
            f'wss://127.0.0.1:{port}/',
            ssl_args={
                'certfile': certificates.cafile,
                'keyfile': certificates.cafile,
                'password': SECRET,
            },
        ),
    }


def test_no_secret_is_told(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    for name, fail in failures(certificates).items():
        with caplog.at_level(logging.DEBUG):
            with pytest.raises(Exception) as caught:
                fail()
        # The text of the error and of all that it came of; the lines of
        # source that the traceback quotes name the variable only.
        told = ''.join(traceback.format_exception(caught.value))
        for each in (told, str(caught.value), repr(caught.value), caplog.text):
            assert SECRET not in each, name


def test_no_repr_shows_a_secret() -> None:
    one = twspy.websocket(auth=('user', SECRET), headers=FIELDS)
    shown: list[Any] = [
        one,
        twspy.DigestAuth({'user': SECRET}.get),
        twspy.HA1.of('user', 'realm', SECRET),
        twspy.Headers(FIELDS),
        twspy.Request('GET', '/', FIELDS),
        twspy.Response(403, {'Set-Cookie': SECRET}),
        twspy.reconnect(f'ws://user:{SECRET}@127.0.0.1/?token={SECRET}'),
        twspy.reconnect('ws://127.0.0.1/', auth=('user', SECRET)),
    ]
    for each in shown:
        for text in (repr(each), str(each)):
            assert SECRET not in text, type(each)
    one.close()


# --- whose password is wrong ---


def status_of(server: EchoServer, authorization: str) -> int:
    with RawPeer.open(server.address) as peer:
        peer.send(request(Authorization=authorization))
        return peer.read_head()[0]


def challenge_of(server: EchoServer, algorithm: str) -> dict[str, str]:
    with RawPeer.open(server.address) as peer:
        peer.send(request())
        while b'\r\n\r\n' not in peer.buffer:
            peer.read_more()
        found = re.findall(r'WWW-Authenticate: (.*)\r', peer.buffer.decode())
        return challenges(found)[algorithm]


@pytest.mark.parametrize('algorithm', ['SHA-256', 'MD5'])
def test_an_unknown_user_has_no_password(algorithm: str) -> None:
    """What is hashed for an unknown user, so that it takes as long, lets
    nobody in: not with an empty password, nor any other."""
    known = {'user': SECRET, 'empty': ''}
    with EchoServer(auth=twspy.DigestAuth(known.get)) as server:
        for user, word in itertools.product(
            ('nobody', 'user', '', 'None'), ('', 'None', 'x', '\0')
        ):
            challenge = challenge_of(server, algorithm)
            assert status_of(server, digest(challenge, user, word)) == 401
        for user, word in known.items():
            challenge = challenge_of(server, algorithm)
            assert status_of(server, digest(challenge, user, word)) == 101


def test_an_unknown_user_takes_as_long() -> None:
    """A name of 100 kB makes the hash of name and password a quarter of the
    time: without it for unknown users the quotient is 0.75."""
    name = 'n' * 100_000
    known = twspy.DigestAuth(lambda user: SECRET)
    unknown = twspy.DigestAuth(lambda user: None)

    def best(auth: twspy.DigestAuth) -> float:
        refusal = auth.authenticate(twspy.Request('GET', '/'))
        assert isinstance(refusal, twspy.Response)
        found = challenges(refusal.headers.get_all('WWW-Authenticate'))
        wrong = digest(found['MD5'], name, 'wrong')
        asked = twspy.Request('GET', '/', {'Authorization': wrong})
        times = []
        for _ in range(40):
            start = time.process_time()
            refused = auth.authenticate(asked)
            times.append(time.process_time() - start)
            assert isinstance(refused, twspy.Response)
        return min(times)

    quotients = []
    for _ in range(8):
        quotients.append(best(unknown) / best(known))
        if 0.88 < quotients[-1] < 1.14:
            return
    raise AssertionError(f'one takes longer: {quotients}')


def function_of(layer: str, file: str, name: str) -> str:
    text = (ROOT / 'csrc' / layer / file).read_text(encoding='utf-8')
    return text[text.index(f'\n{name}(') :].split('\n}\n')[0]


def test_the_way_is_the_same_for_unknown_users() -> None:
    """Read from the source: nothing is decided by whether there is such a user
    before the answer was hashed and compared."""
    asked = function_of('python', 'auth_judge.c', 'ask_password')
    hashed = asked.index('hash_password(')
    assert asked.index('Py_None', hashed) > hashed
    assert 'return 0' not in asked
    judged = function_of('python', 'auth_judge.c', 'judge_digest')
    assert judged.index('known < 0') < judged.index('tws_digest_verify(')
    assert judged.index('tws_digest_verify(') < judged.index('known == 0')
    verify = function_of('protocol', 'digest_auth.c', 'tws_digest_verify')
    assert 'tws_equal_constant_time(' in verify
    assert 'memcmp(' not in verify
