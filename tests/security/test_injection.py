"""Line breaks, NUL and escape sequences: not from a program's arguments into
a head, and not from a peer into a log, an error or a terminal."""

from __future__ import annotations

import itertools
import logging
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from rawends import answer, client_end, read_request, server_end, tcp_pair
from rawpeer import CLOSE, PING, TEXT, RawPeer, close_payload, pack, request
from rawservers import Asked, redirect, route, say, serving, welcome
from servers import EchoServer

import twspy

BAD = {
    'CR LF': 'a\r\nX-Bad: y',
    'LF': 'a\nX-Bad: y',
    'CR': 'a\rX-Bad: y',
    'end of the head': 'a\r\n\r\nGET /bad HTTP/1.1',
    'NUL': 'a\0b',
    'vertical tab': 'a\x0bb',
    'escape': 'a\x1b[31mb',
    'delete': 'a\x7fb',
    'next line of Unicode': 'a\u2028b',
    'becomes LF in latin-1': 'a\u010ab',
    'becomes CR in latin-1': 'a\u010db',
    'surrogate': 'a\ud80ab',
}

Argument = Callable[[str], object]


def refuse_all(function: Argument, text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        made = function(text)
        if hasattr(made, 'close'):
            made.close()
    # What says so is fit for a log itself.
    lines = traceback.format_exception_only(caught.value)
    assert len(lines) == 1
    assert str(caught.value).isprintable()


# --- a client's arguments ---

URL = 'ws://127.0.0.1:1/'
CLIENT: dict[str, Argument] = {
    'value of a field': lambda t: twspy.websocket(headers={'X': t}),
    'name of a field': lambda t: twspy.websocket(headers={t: 'y'}),
    'pair of fields': lambda t: twspy.websocket(headers=[('X', t)]),
    'location': lambda t: twspy.websocket(location=f'/{t}'),
    'query': lambda t: twspy.websocket(location=f'/?{t}'),
    'origin': lambda t: twspy.websocket(origin=f'http://{t}'),
    'subprotocol': lambda t: twspy.websocket(protocols=[t]),
    'field of connect()': lambda t: twspy.connect(URL, headers={'X': t}),
    'user agent': lambda t: twspy.connect(URL, user_agent=t),
    'origin of connect()': lambda t: twspy.connect(URL, origin=t),
    'subprotocol of connect()': lambda t: twspy.connect(URL, protocols=[t]),
    'host of a URL': lambda t: twspy.connect(f'ws://a{t}/'),
    'port of a URL': lambda t: twspy.connect(f'ws://a:1{t}/'),
    'scheme of a URL': lambda t: twspy.connect(f'w{t}s://a/'),
    'host of a proxy': lambda t: twspy.connect(URL, proxy=f'http://{t}/'),
}


@pytest.mark.parametrize('name', CLIENT)
def test_arguments_of_a_client(name: str) -> None:
    for kind, text in BAD.items():
        # These are letters that a name may have.
        if not (name.startswith('host') and kind.startswith('becomes')):
            refuse_all(CLIENT[name], text)


@pytest.mark.parametrize('where', ['path', 'query', 'user'])
def test_what_a_url_may_hold_is_encoded_or_refused(where: str) -> None:
    """Nothing is dropped in silence, as urlsplit() does with line breaks."""
    with serving(welcome) as server:
        for text in BAD.values():
            url = {
                'path': f'{server.url}/{text}',
                'query': f'{server.url}/?{text}',
                'user': server.url.replace('//', f'//{text}@'),
            }[where]
            try:
                twspy.connect(url, close_timeout=0).close()
            except ValueError as error:
                assert str(error).isprintable()
    for asked in server.requests:
        assert 'x-bad' not in asked.head
        assert '\n' not in asked.target
        assert asked.target.isascii() and asked.target.isprintable()


@pytest.mark.parametrize('text', BAD.values(), ids=BAD)
def test_host_of_a_handshake(text: str) -> None:
    one, two = tcp_pair()
    with twspy.websocket(one) as sock, RawPeer(two):
        refuse_all(lambda t: sock.handshake(host=t), text)


HOSTILE_REALMS = ['a\\"b', 'a, uri=\\"/other\\"', 'x\ty', 'é', 'a' * 5000]


@pytest.mark.parametrize('scheme', ['Basic', 'Digest'])
def test_credentials_hold_no_line_break(scheme: str) -> None:
    """Neither from the caller, nor from the challenge that they answer."""
    heads: list[dict[str, str]] = []

    def react(peer: RawPeer, asked: Asked) -> None:
        if 'authorization' in asked.head:
            heads.append(asked.head)
            peer.send(answer(asked.head))
            return
        realm = HOSTILE_REALMS[len(asked.target) - 1]
        say(
            b'HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: '
            + f'{scheme} realm="{realm}", nonce="n", qop="auth", '.encode()
            + b'opaque="o\\"p"\r\n\r\n'
        )(peer, asked)

    pairs = [(user, 'word') for user in ('user', 'a"b', 'a\\', *BAD.values())]
    pairs += [('user', word) for word in BAD.values()]
    numbers = range(len(HOSTILE_REALMS))
    with serving(react) as server:
        for number, auth in itertools.product(numbers, pairs):
            url = f'{server.url}/{"x" * number}'  # which realm it asks for
            try:
                twspy.connect(url, auth=auth, close_timeout=0).close()
            except (ValueError, twspy.HandshakeError) as error:
                assert str(error).isprintable()
    assert heads
    for head in heads:
        assert 'x-bad' not in head
        assert head['authorization'].startswith(scheme)


# --- a server's ---


class Answering(EchoServer):
    """Answers with what a test gives it, or what comes of the attempt."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.failures: list[Exception] = []
        super().__init__(loglevel='CRITICAL')

    def onrequest(self, request: twspy.Request) -> twspy.Response:
        made: twspy.Response = self.make()
        return made

    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> twspy.Response | None:
        made: twspy.Response | None = self.make()
        return made

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        self.failures.append(error)


def fail(error: Exception) -> None:
    raise error


SERVER: dict[str, Callable[[str], Callable[[], Any]]] = {
    'value of a field': lambda t: lambda: twspy.Response(403, {'X': t}),
    'name of a field': lambda t: lambda: twspy.Response(403, {t: 'y'}),
    'cookie': lambda t: lambda: twspy.Response(101, {'Set-Cookie': t}),
    'redirect': lambda t: lambda: twspy.Response(302, {'Location': t}),
    'field of an error': lambda t: (
        lambda: fail(twspy.HandshakeError('no', 403, {'X': t}))
    ),
    'subprotocol': lambda t: (
        lambda: twspy.Response(101, {'Sec-WebSocket-Protocol': t})
    ),
}


@pytest.mark.parametrize('name', SERVER)
def test_answers_of_a_server(name: str) -> None:
    for text in BAD.values():
        with Answering(SERVER[name](text)) as server:
            for sent in (request(), request(remove=('Upgrade',))):
                with RawPeer.open(server.address) as peer:
                    peer.send(sent)
                    status, head, _ = peer.read_answer()
                    assert status == 500, text
                    assert 'x-bad' not in head
        assert len(server.failures) == 2


@pytest.mark.parametrize('text', BAD.values(), ids=BAD)
def test_what_is_written_into_every_answer(text: str) -> None:
    refuse_all(lambda t: twspy.BasicAuth(lambda u, p: True, t), text)
    refuse_all(lambda t: twspy.DigestAuth({}.get, t), text)
    refuse_all(lambda t: twspy.Headers({'X': t}), text)
    refuse_all(lambda t: twspy.Headers({t: 'X'}), text)

    class Named(twspy.Extension):
        name = text

    refuse_all(lambda t: twspy.websocket(extensions=[Named]), text)


@pytest.mark.parametrize('where', ['name', 'value'])
@pytest.mark.parametrize('text', BAD.values(), ids=BAD)
def test_parameters_of_extensions(text: str, where: str) -> None:
    params = {text: 'y'} if where == 'name' else {'x': text}

    class Offering(twspy.Extension):
        name = 'x-offering'

        def offer(self) -> Any:
            return params

        def negotiate(self, given: dict[str, str | None]) -> Any:
            return params

    one, two = tcp_pair()
    with twspy.websocket(one, extensions=[Offering]) as sock, RawPeer(two):
        refuse_all(lambda t: sock.handshake(host='localhost'), text)
    one, two = tcp_pair()
    sent = request(Sec_WebSocket_Extensions='x-offering')
    with twspy.websocket(one, extensions=[Offering]) as sock:
        with RawPeer(two) as peer:
            two.shutdown(socket.SHUT_WR)
            with pytest.raises(twspy.HandshakeError):
                sock.handshake(server=True, initial=sent)
            status, head = peer.read_head()
            assert status == 500, head
            assert 'sec-websocket-extensions' not in head
            assert 'x-bad' not in head


# --- what peers say, in logs and errors ---

ESCAPES = '\x1b[2J\x1b]0;title\x07\r\nWARNING:forged:line\x9b31m\u202e\0'


def test_a_servers_log_has_one_line_for_each_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Plain(twspy.Server):
        pass

    payload = ESCAPES.encode()
    with caplog.at_level(logging.DEBUG):
        with Plain(('127.0.0.1', 0), loglevel='DEBUG') as server:
            with RawPeer.connect(
                server.address,
                '/%1b[2J?%0a',
                Origin='http://evil\xa0',
                X_Hostile='\x85\x9b31m',
            ) as peer:
                peer.send_frame(TEXT, payload)
                peer.send_frame(PING, payload)
                peer.send_frame(CLOSE, close_payload(3000) + payload)
                peer.read_frame()
                assert peer.read_frame().opcode == CLOSE
                peer.expect_end()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) >= 6
    for line in lines:
        assert line.isprintable(), line
    assert any('3000' in line for line in lines)


@pytest.mark.parametrize('end', [client_end, server_end])
def test_errors_of_a_connection_are_one_line(
    end: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    sock, peer = end()
    with caplog.at_level(logging.DEBUG), sock, peer:
        connection = twspy.Connection(sock)
        payload = close_payload(3000) + ESCAPES.encode()
        peer.send(pack(CLOSE, payload, mask=end is server_end))
        peer.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(twspy.SocketClosed) as caught:
            connection.recv()
    assert str(caught.value).isprintable()
    assert repr(caught.value).isprintable()
    assert caught.value.reason == ESCAPES  # as it is, for a program
    assert all(r.getMessage().isprintable() for r in caplog.records)


HOSTILE_ANSWERS = {
    'reason': 'HTTP/1.1 403 a\x85\x9b31m\xadb\r\nContent-Length: 0\r\n\r\n',
    'reason with an escape': 'HTTP/1.1 403 \x1b[2J\r\n\r\n',
    'body': 'HTTP/1.1 403 No\r\nContent-Type: text/plain\r\n\r\n' + ESCAPES,
    'html': 'HTTP/1.1 403 No\r\nContent-Type: text/html\r\n\r\n' + ESCAPES,
    'names': 'HTTP/1.1 403 No\r\n' + 'x' * 9000 + ': y\r\n\r\n',
    'type': 'HTTP/1.1 403 No\r\nContent-Type: text/\x9b31m\r\n\r\n' + ESCAPES,
    'challenge': 'HTTP/1.1 401 No\r\nWWW-Authenticate: \x9bBasic\r\n\r\n',
    'no answer': ESCAPES * 20 + '\r\n\r\n',
    'upgrade': 'HTTP/1.1 101 Yes\r\nUpgrade: \x9b31m\x85\r\n\r\n',
    'long': 'HTTP/1.1 403 ' + 'a' * 9000 + '\r\n\r\n' + 'b' * 9000,
}


@pytest.mark.parametrize('name', HOSTILE_ANSWERS)
def test_errors_of_a_handshake_are_one_line(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire = HOSTILE_ANSWERS[name].encode('latin-1', 'replace')
    with caplog.at_level(logging.DEBUG), serving(say(wire)) as server:
        with pytest.raises(twspy.HandshakeError) as caught:
            twspy.connect(server.url, auth=('user', 'word'))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    for record in caplog.records:
        assert record.getMessage().isprintable()


LOCATIONS = [
    'ws://evil.example\x85/',
    'ws://[::1',
    'javascript:alert(1)',
    'file:///etc/passwd',
    'ws://a:99999/',
    'ws://a b/',
    'ws:///',
    '//',
    'ws://\\evil/',
    'ws://127.1/',
    'ws://a@b@c/',
    'ws://x\x9b31m/' + 'a' * 3000,
]


@pytest.mark.parametrize('location', LOCATIONS)
def test_hostile_redirects_are_refused_in_a_line(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        with serving(route({'/': redirect(location)})) as server:
            with pytest.raises((twspy.HandshakeError, OSError)) as caught:
                twspy.connect(server.url)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    for record in caplog.records:
        assert record.getMessage().isprintable()


def test_raw_heads_would_show_it() -> None:
    """Where a line break does get through, these tests see it."""
    one, two = tcp_pair()
    with RawPeer(one) as sender, RawPeer(two) as reader:
        sender.send(request(X='a\r\nX-Bad: y'))
        _, head = read_request(reader)
        assert head['x-bad'] == 'y'
