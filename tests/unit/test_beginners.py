"""What those who are new get wrong: the error tells what to do."""

from __future__ import annotations

import io
import logging
import pathlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

import twspy

HERE = ('127.0.0.1', 0)
SOON = 10


def served(made: type[twspy.Server] = twspy.Server) -> twspy.Server:
    return made(HERE)


# --- messages ---


@pytest.mark.parametrize(
    ('given', 'text'),
    [
        ({'a': 1}, 'message is dict, expected .* (json.dumps() makes a str'),
        (['a'], 'message is list, expected .* (json.dumps() makes a str'),
        (5, 'message is int, expected a Message, str or a bytes-like object'),
        (twspy.Frame(1, 'x'), 'sent with connection.sock.send()'),
    ],
)
def test_send_of_what_is_no_message(given: Any, text: str) -> None:
    pattern = re.escape(text).replace(r'\.\*', '.*')
    left, right = twspy.pair()
    with left, right, pytest.raises(TypeError, match=pattern) as caught:
        left.send(given)
    if isinstance(given, int):
        assert str(caught.value).endswith('object')


def test_two_messages_at_once() -> None:
    left, right = twspy.pair()
    wrong: Any = 'b'
    with (
        left,
        right,
        pytest.raises(TypeError, match=r'^fragment_size is str, expected an'),
    ):
        left.send('a', wrong)


def test_a_frame_is_what_the_socket_takes() -> None:
    left, right = twspy.pair()
    wrong: Any = 'text'
    with (
        left,
        right,
        pytest.raises(TypeError, match=r'got str .that of a Connection takes'),
    ):
        left.sock.send(wrong)


@pytest.mark.parametrize('given', [5, None, io.BytesIO()])
def test_only_bytes_are_to_be_decoded(given: Any) -> None:
    with pytest.raises(TypeError, match=r'takes str, got [\w.]+$'):
        twspy.TextMessage(given)


def test_a_reason_in_place_of_the_code() -> None:
    wrong: Any = 'bye'
    with pytest.raises(TypeError, match=r'got str .the reason comes second'):
        twspy.CloseMessage(wrong)
    wrong = None
    with pytest.raises(TypeError, match=r'got NoneType$'):
        twspy.CloseMessage(wrong)


# --- addresses ---


def test_a_url_that_a_websocket_does_not_take_is_not_shown() -> None:
    wrong: Any = 'ws://ada:s3cret@127.0.0.1/'
    with (
        twspy.websocket() as sock,
        pytest.raises(TypeError, match=r'connect.. takes a URL') as caught,
    ):
        sock.connect(wrong)
    assert 's3cret' not in str(caught.value)


def test_a_port_that_is_taken() -> None:
    with (
        served() as server,
        pytest.raises(OSError, match='another program listens there'),
    ):
        twspy.Server(server.address)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="'' means"):
        twspy.Server(('192.0.2.1', 0))


def test_a_unix_socket_in_no_directory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match='directory has to exist'):
        twspy.Server(str(tmp_path / 'none' / 'app.sock'))


# --- options ---


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ('trusted_origin', "did you mean 'trusted_origins'?"),
        ('maxsize', "did you mean 'max_size'?"),
        ('workers', 'give it to run()'),
        ('certfile', "write ssl_args={'certfile': ..., 'keyfile': ...}"),
        ('onmessage', 'handlers are methods of a subclass'),
    ],
)
def test_an_option_that_a_server_has_not(option: str, text: str) -> None:
    expected = f'Server() has no option {option!r}: {text}'
    with pytest.raises(TypeError) as caught:
        twspy.Server(HERE, **{option: 1})
    assert str(caught.value) == expected


def test_nothing_is_like_it() -> None:
    with pytest.raises(TypeError, match=r"has no option 'zzz'$"):
        twspy.Server(HERE, zzz=1)


def test_an_option_that_reconnect_has_not() -> None:
    options: Any = {'initial_dely': 1}
    with pytest.raises(TypeError, match="did you mean 'initial_delay'"):
        twspy.reconnect('ws://127.0.0.1:1/', **options)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'ssl_args': 'server.pem'}, 'ssl_args is str, expected a mapping'),
        ({'ssl': True}, 'TLS context is bool, expected an ssl.SSLContext'),
        (
            {'compression': True},
            "compression is bool, expected 'deflate', an Extension,",
        ),
    ],
)
def test_options_of_a_client(options: Any, text: str) -> None:
    with served() as server, pytest.raises(TypeError, match=text):
        twspy.connect(f'wss://127.0.0.1:{server.address[1]}/', **options)


def test_a_body_where_headers_are() -> None:
    wrong: Any = 'hello'
    with pytest.raises(TypeError, match=r'headers is str, .* body='):
        twspy.Response(200, wrong)
    wrong = ['hello']
    with pytest.raises(TypeError, match='headers is list, expected a mapping'):
        twspy.Response(200, wrong)


# --- handlers ---


def test_handlers_that_are_misspelt(caplog: Any) -> None:
    class Base(twspy.Server):
        def on_open(self, client: Any) -> None: ...

    class Chat(Base):
        onconnection_count = 0

        def onmesage(self, client: Any, message: Any) -> None: ...
        def onDisconnect(self, client: Any) -> None: ...
        def only_us(self) -> None: ...
        def on_ping(self, client: Any) -> None: ...
        def onping(self, client: Any, payload: bytes) -> None: ...

    with caplog.at_level(logging.WARNING, 'twspy.server'), Chat(HERE):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        f'Chat.{name} is no handler, and is not called: did you mean {meant}?'
        for name, meant in (
            ('onDisconnect', 'onclose'),
            ('on_open', 'onopen'),
            ('onmesage', 'onmessage'),
        )
    ]


def test_handlers_that_nobody_would_await() -> None:
    class Chat(twspy.Server):
        async def onmessage(  # type: ignore[override]
            self, client: Any, message: Any
        ) -> None: ...

    with pytest.raises(TypeError, match=r'Chat.onmessage is a coroutine func'):
        Chat(HERE)


class Silent(twspy.Server):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    'use',
    [
        lambda server: server.run(),
        lambda server: server.__enter__(),
        lambda server: server.stop(),
        lambda server: server.address,
        lambda server: server.max_join_time,
        lambda server: server.worker,
    ],
)
def test_a_server_without_its_init(use: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError, match=r'call super...__init__.address.'):
        use(Silent())


def test_a_debugger_can_look_at_it() -> None:
    assert repr(Silent()) == '<Silent without __init__()>'


def test_what_reconnect_returns_tells_no_secrets() -> None:
    url = 'ws://ada:s3cret@127.0.0.1:1/feed?token=s3cret'
    connections = twspy.reconnect(url)
    shown = repr(connections)
    assert shown.startswith('<Reconnecting ws://')
    assert '127.0.0.1:1/feed' in shown
    assert shown.endswith(' active>')
    assert 's3cret' not in shown
    connections.close()
    assert repr(connections).endswith(' stopped>')


# --- one client ---


class Private(twspy.Server):
    def onmessage(self, client: twspy.Connection, message: Any) -> None:
        self.broadcast(message, to=client)


def test_a_broadcast_to_one_client_does_not_wait_for_its_messages() -> None:
    with Private(HERE) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with twspy.connect(url) as one, twspy.connect(url) as other:
            one.send('for one')
            assert one.recv(timeout=SOON).payload == 'for one'
            other.send('for the other')
            assert other.recv(timeout=SOON).payload == 'for the other'


def test_a_request_whose_handler_raises_has_no_client(caplog: Any) -> None:
    class Broken(twspy.Server):
        def onrequest(self, request: twspy.Request) -> None:
            raise KeyError('mine')

    with (
        caplog.at_level(logging.ERROR, 'twspy.server'),
        Broken(HERE) as server,
        socket.create_connection(server.address, timeout=SOON) as peer,
    ):
        peer.sendall(b'GET / HTTP/1.1\r\nHost: here\r\n\r\n')
        while peer.recv(4096):
            pass
    (record,) = caplog.records
    assert record.getMessage() == "a request: handler raised KeyError('mine')"


def test_a_refusal_in_words() -> None:
    error = twspy.HandshakeError('no', 403, body='für Alice\n')
    assert error.body == 'für Alice\n'.encode()
    assert str(error) == 'no; body: für Alice'

    class Picky(twspy.Server):
        def onhandshake(
            self, client: twspy.Connection, request: twspy.Request
        ) -> None:
            raise error

    with Picky(HERE) as server:
        url = f'ws://127.0.0.1:{server.address[1]}/'
        with pytest.raises(twspy.HandshakeError) as caught:
            twspy.connect(url)
    assert caught.value.status == 403
    assert caught.value.body == error.body
