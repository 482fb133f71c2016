"""What the tests of faults do over and over, each time with another fault.

A scenario is made with a Place to work in, which outlasts it: servers that
run on, each with a bystander whose connection must not suffer.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import twspy
from twspy.extensions import Extension

# Waiting longer than that for anything is to hang.
PATIENCE = 5.0
TEXT = 'some text, more than once: some text, ä' * 4
LARGE = bytes(range(256)) * 400  # more than what is copied and buffered

CLIENT: dict[str, Any] = {
    'open_timeout': PATIENCE,
    'close_timeout': 1.0,  # what a lost Close frame costs
    'proxy': None,
}
SERVER: dict[str, Any] = {
    'open_timeout': PATIENCE,
    'close_timeout': 1.0,  # what a lost Close frame costs
    'send_timeout': PATIENCE,
    'loglevel': logging.DEBUG,
    'max_join_time': PATIENCE,
}


def reverse(frame: twspy.Frame, mark: bool) -> twspy.Frame:
    payload = frame.payload[::-1]
    return twspy.Frame(frame.opcode, payload, final=frame.final, rsv2=mark)


class Reverse(Extension):
    """One in Python."""

    name = 'x-reverse'
    rsv2 = True

    def onsend(self, frame: twspy.Frame) -> twspy.Frame:
        return reverse(frame, True)

    def onrecv(self, frame: twspy.Frame) -> twspy.Frame:
        return reverse(frame, False)


class Echo(twspy.Server):
    """Sends back what comes, in the way that the text asks for."""

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        if message.payload == 'broadcast':
            self.broadcast(message, to=[client])
        elif message.payload == 'stream':
            with client.send_stream(text=True) as out:
                out.write('str')
                out.flush()
                out.write('eam')
        elif message.payload == 'again':
            client.send(client.recv(PATIENCE))
        else:
            client.send(message)

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        """A client whose message was lost in a fault would wait for it."""
        super().onerror(client, error)
        if client is not None:
            with suppress(RuntimeError):  # it may not have been let in
                client.close(1011, 'fault')


class Park:
    """Servers and their bystanders.

    certfile: of localhost, with its key in `keyfile`
    cafile: who has signed it
    """

    def __init__(self, cafile: str, certfile: str, keyfile: str) -> None:
        self.cafile = cafile
        self.server_tls = {'certfile': certfile, 'keyfile': keyfile}
        self._servers: dict[str, tuple[Echo, twspy.Connection]] = {}
        self._end = ExitStack()

    def server(self, kind: str) -> Echo:
        """The one of a kind, that see options()."""
        if kind not in self._servers:
            server = Echo(('127.0.0.1', 0), **self.options(kind))
            self._end.enter_context(server)
            bystander = self.connect(server, kind, ping_interval=None)
            self._end.enter_context(bystander)
            self._servers[kind] = server, bystander
        return self._servers[kind][0]

    def options(self, kind: str) -> dict[str, Any]:
        """Those of a server."""
        options = dict(SERVER)
        if kind == 'tls':
            options['ssl_args'] = self.server_tls
        elif kind == 'deflate':
            options['compression'] = 'deflate'
        elif kind == 'extension':
            options['extensions'] = [Reverse()]
        elif kind == 'basic':
            options['auth'] = twspy.BasicAuth(lambda name, word: word == 'ok')
        elif kind == 'digest':
            options['auth'] = twspy.DigestAuth(lambda name: 'ok')
        return options

    def connect(
        self, server: Echo, kind: str, **options: Any
    ) -> twspy.Connection:
        """A client that fits a server of a kind."""
        host, port = server.address[:2]
        scheme = 'ws'
        if kind == 'tls':
            scheme, host = 'wss', 'localhost'
            options['ssl_args'] = {'cafile': self.cafile}
        elif kind == 'deflate':
            options['compression'] = 'deflate'
        elif kind == 'extension':
            options['extensions'] = [Reverse()]
        elif kind in ('basic', 'digest'):
            options['auth'] = ('me', 'ok')
        url = f'{scheme}://{host}:{port}/'
        return twspy.connect(url, **(CLIENT | options))

    def check(self) -> None:
        """Fails where a bystander was hurt, or a client is left."""
        for server, bystander in self._servers.values():
            bystander.send('still here')
            answer = bystander.recv(PATIENCE).payload
            assert answer == 'still here', answer
            left = threading.Event()
            for _ in range(int(PATIENCE * 1000)):
                if len(server.clients) <= 1:
                    break
                left.wait(0.001)
            assert len(server.clients) == 1, server.clients

    def close(self) -> None:
        """End it all."""
        self._end.close()
        self._servers.clear()


def talk(client: twspy.Connection) -> None:
    """All ways that messages go."""
    client.send(TEXT)
    assert client.recv(PATIENCE).payload == TEXT
    client.send(LARGE, fragment_size=30000)
    assert client.recv(PATIENCE).payload == LARGE
    client.send(twspy.BinaryMessage(b'\0\1\2'))
    assert client.recv(PATIENCE).payload == b'\0\1\2'
    client.send('broadcast')
    assert client.recv(PATIENCE).payload == 'broadcast'
    client.send_ping(b'payload')
    client.send('again')
    client.send('hello')
    assert client.recv(PATIENCE).payload == 'hello'


def stream(client: twspy.Connection) -> None:
    """Messages in pieces."""
    with client.send_stream() as out:
        for _ in range(3):
            out.write(LARGE[:40000])
    chunks = b''.join(client.recv_stream(PATIENCE))
    assert chunks == LARGE[:40000] * 3, len(chunks)
    client.send('stream')
    assert ''.join(client.recv_stream(PATIENCE)) == 'stream'


def served(kind: str) -> Callable[[Park], None]:
    """A client of a server that runs on."""

    def act(park: Park) -> None:
        with park.connect(park.server(kind), kind) as client:
            talk(client)

    return act


def streaming(kind: str) -> Callable[[Park], None]:
    def act(park: Park) -> None:
        with park.connect(park.server(kind), kind) as client:
            stream(client)

    return act


def started(kind: str) -> Callable[[Park], None]:
    """A server that comes and goes, and its client."""

    def act(park: Park) -> None:
        with Echo(('127.0.0.1', 0), **park.options(kind)) as server:
            with park.connect(server, kind) as client:
                client.send(TEXT)
                assert client.recv(PATIENCE).payload == TEXT

    return act


def sockets(park: Park) -> None:
    """The type `websocket`: both ends, with hooks."""
    with closing(twspy.websocket(open_timeout=PATIENCE)) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        failures: list[BaseException] = []

        def answer() -> None:
            try:
                with listener.accept() as end:
                    end.settimeout(PATIENCE)
                    end.send(end.recv(), *end.recvn(2))
            except BaseException as error:
                failures.append(error)
            listener.close()  # nobody else is to wait for an answer

        thread = threading.Thread(target=answer)
        thread.start()
        with ExitStack() as end:
            end.callback(thread.join)
            end.push(lambda kind, *rest: kind and listener.close())
            with closing(
                twspy.websocket(headers={'X-One': '1'}, protocols=['a'])
            ) as sock:
                sock.settimeout(PATIENCE)
                sock.add_hook(send=lambda frame: frame)
                sock.add_hook(recv=lambda frame: frame)
                sock.connect(listener.getsockname())
                str(sock.response), str(sock.request)
                sock.send(
                    twspy.Frame(twspy.OPCODE_TEXT, 'text'),
                    twspy.Frame(twspy.OPCODE_BINARY, LARGE),
                    twspy.ControlFrame(twspy.OPCODE_PING, 'ping'),
                )
                assert sock.recv().payload == b'text'
                assert sock.recvn(2)[0].payload == LARGE
        if failures:
            raise failures[0]


def objects(park: Park) -> None:
    """Frames and messages."""
    frame = twspy.Frame(twspy.OPCODE_TEXT, 'päyload', masking_key=b'1234')
    packed = frame.pack() + twspy.Frame(twspy.OPCODE_BINARY, LARGE).pack()
    found, used = twspy.Frame.unpack(packed)
    assert found == frame and used < len(packed) and repr(found)
    for part in twspy.Frame(twspy.OPCODE_BINARY, LARGE).fragment(30000):
        assert part.is_fragmented()
    close = twspy.CloseMessage(1000, 'bye')
    assert twspy.ControlFrame(8, close.payload).unpack_close()
    text = twspy.TextMessage('{"a": "ä"}')
    assert text.json() == {'a': 'ä'}
    for message in (text, twspy.BinaryMessage(LARGE), close):
        assert message.frame(mask=True).pack() and repr(message)
        assert message == message
    assert list(text.fragment(3))
    assert twspy.Message(twspy.OPCODE_BINARY, bytearray(b'x')).payload == b'x'


def importing(park: Park) -> None:
    """The module, once more."""
    before = sys.modules.pop('twspy._twspy')
    try:
        importlib.import_module('twspy._twspy')
    finally:
        sys.modules['twspy._twspy'] = before
        twspy._twspy = before


def pair(park: Park) -> None:
    """Both ends blocking."""
    with ExitStack() as end:
        client, server = twspy.pair(
            compression=twspy.DeflateMessage(client_no_context_takeover=True)
        )
        end.callback(client.sock.close)
        end.callback(server.sock.close)
        for one, other in ((client, server), (server, client)):
            one.send(TEXT)
            assert other.recv(PATIENCE).payload == TEXT
            one.send_ping(b'1')
            one.send(twspy.TextMessage('more'), compress=False)
            assert next(other).payload == 'more'


SCENARIOS: dict[str, Callable[[Park], None]] = {
    'import': importing,
    'objects': objects,
    'sockets': sockets,
    'pair': pair,
    **{
        f'{name}-{kind}': make(kind)
        for name, make in (
            ('served', served),
            ('streaming', streaming),
            ('started', started),
        )
        for kind in ('plain', 'tls', 'deflate', 'extension')
    },
    'served-basic': served('basic'),
    'served-digest': served('digest'),
}


@contextmanager
def quiet() -> Iterator[list[str]]:
    """What the library logs ends in a list."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record).splitlines()[0])

    handler = Keep()
    logger = logging.getLogger('twspy')
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
