"""The public API as a program with types uses it, and what it must not do.

Not run: `make types` has mypy and basedpyright read it, both strict. Where a
use is wrong a comment expects the complaint, and is one itself without it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import sys
from typing import assert_type

import twspy

PASSWORDS = {'alice': 'wonderland'}


class Checksum(twspy.Extension):
    name = 'x-checksum'
    names = ('x-checksum',)
    rsv2 = True
    opcodes = (3,)
    before_fragmentation = True

    def offer(self) -> dict[str, int]:
        return {'bits': 32}

    def negotiate(
        self, params: dict[str, str | None]
    ) -> dict[str, str | None] | None:
        return params if params == {'bits': '32'} else None

    def accept(self, params: dict[str, str | None]) -> None:
        if params != {'bits': '32'}:
            raise ValueError('expected bits=32')

    def onsend(self, frame: twspy.Frame) -> twspy.Frame:
        return twspy.Frame(frame.opcode, frame.payload, rsv2=True, final=True)

    def onrecv(self, frame: twspy.Frame) -> twspy.Frame:
        if not frame.payload:
            raise twspy.ProtocolError('empty', 1007)
        return frame


class Member(twspy.Connection):
    def onopen(self) -> None:
        self.send('hello')

    def onmessage(self, message: twspy.Message) -> None:
        if isinstance(message, twspy.TextMessage):
            assert_type(message.payload, str)
        elif isinstance(message, twspy.BinaryMessage):
            assert_type(message.payload, bytes)

    def onclose(self, message: twspy.CloseMessage) -> None:
        print(message.code, message.reason, message.explanation)

    def onping(self, payload: bytes) -> None:
        print(payload)

    def onpong(self, payload: bytes) -> None:
        print(payload)

    def onerror(self, error: Exception) -> None:
        raise error


class Chat(twspy.Server):
    def onhandshake(
        self, client: twspy.Connection, request: twspy.Request
    ) -> twspy.Response | None:
        assert_type(client.username, str | None)
        if request.headers.get('Cookie') is None:
            return twspy.Response(403, [('X', 'y')], b'no')
        if request.path == '/admin':
            raise twspy.HandshakeError('for alice only', 403)
        return twspy.Response(101, headers={'Set-Cookie': 'a=b'})

    def onrequest(self, request: twspy.Request) -> twspy.Response | None:
        if self.auth is not None:
            who = self.auth.authenticate(request)
            if isinstance(who, twspy.Response):
                return who
            assert_type(who, str)
        print(request.method, request.target, request.query, request.version)
        return None

    def onopen(self, client: twspy.Connection) -> None:
        client.send(twspy.TextMessage('hello'))

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        number: int = self.broadcast(message, to=self.clients, exclude=client)
        self.broadcast('x', slow='close', compress=False)
        self.broadcast(b'x', to=client)
        print(number)

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        super().onclose(client, message)
        print(message.ended_by, message.sent, message.received)
        print(message.errno, message.unsent, message.ping_age)

    def onsent(self, client: twspy.Connection, message: twspy.Message) -> None:
        print(client.queued, message.opcode)

    def onping(self, client: twspy.Connection, payload: bytes) -> None:
        print(payload)

    def onpong(self, client: twspy.Connection, payload: bytes) -> None:
        print(payload)

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        super().onerror(client, error)

    def more(self) -> None: ...


def servers() -> None:
    chat = Chat(
        ('127.0.0.1', 0),
        trusted_origins='same-origin',
        locations=['/'],
        protocols=('chat',),
        extensions=[Checksum, twspy.DeflateFrame()],
        compression='deflate',
        auth=twspy.DigestAuth(PASSWORDS.get, 'realm', algorithms=['MD5']),
        max_size=None,
        max_clients=5,
        ping_interval=None,
        ssl_args={'certfile': 'a', 'keyfile': 'b'},
    )
    with chat as server:
        assert_type(server, Chat)
        server.more()
    assert_type(chat.start(loops=2), Chat)
    chat.run(workers=2)
    chat.reload_certificates()
    print(chat.stats()['clients'], chat.address[1], chat.worker)
    print(chat.max_join_time, chat.max_size)
    chat.stop(twspy.CLOSE_GOING_AWAY, 'bye')
    Chat('/run/x.sock')
    Chat(sock=socket.socket(), ssl=ssl.create_default_context())
    for sock in twspy.listen_fds():
        assert_type(sock, socket.socket)
    twspy.BasicAuth(lambda user, password: user == password, 'x')
    twspy.DigestAuth(lambda user: twspy.HA1('0' * 64, 'SHA-256'))
    twspy.HA1.of('alice', 'realm', 'wonderland').hex.upper()


def clients() -> None:
    with twspy.connect(
        'ws://x/',
        compression=twspy.DeflateMessage(shared=True, level=3),
        headers={'A': 'b'},
        auth=('a', 'b'),
        proxy=None,
        open_timeout=3,
    ) as connection:
        assert_type(connection, twspy.Connection)
        for part in ('x', b'x', bytearray(b'x'), memoryview(b'x')):
            connection.send(part, 10, compress=True, timeout=3)
        message = connection.recv(timeout=10)
        assert_type(message, twspy.Message)
        print(message.payload, message.json(parse_int=float))
        for message in connection:
            print(message.opcode)
        with contextlib.closing(connection.recv_stream(3)) as chunks:
            for chunk in chunks:
                print(chunk)
        with open(__file__, 'rb') as f, connection.send_stream() as out:
            shutil.copyfileobj(f, out)
        with connection.send_stream(text=True) as text:
            text.write('x')
            text.flush()
        connection.send_ping('x')
        connection.add_hook(send=lambda m: m, recv=lambda m: m, prepend=True)
        connection.receive_forever()
        print(connection.state, connection.latency, connection.extensions)
        print(connection.local_address, connection.remote_address)
        certificate = connection.sock.peer_certificate
        if certificate:
            print(certificate.subject, certificate.fingerprint())
        print(connection.sock.version, connection.sock.cipher)
        connection.close(1000, 'bye', timeout=3)
    member = twspy.connect('ws://x/', connection_class=Member)
    assert_type(member, Member)
    with twspy.reconnect('ws://x/', connection_class=Member) as members:
        assert_type(members, twspy.Reconnecting[Member])
        for member in members:
            assert_type(member, Member)
            members.stop()
    for connection in twspy.reconnect(
        'ws://x/', retry=lambda error: isinstance(error, OSError)
    ):
        assert_type(connection, twspy.Connection)
    near, far = twspy.pair(compression='deflate')
    near.send('x')
    far.recv()


def frames() -> None:
    sock = twspy.websocket(
        socket.socket(), trusted_origins=['http://x'], auth=('a', 'b')
    )
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(('', 8000))
    sock.listen()
    assert_type(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), int)
    assert_type(sock.getsockopt(socket.SOL_SOCKET, 1, 8), bytes)
    sock.enable_ssl(certfile='x', keyfile='y')
    client, addr = sock.accept()
    print(client, addr)
    peer = sock.accept()
    peer.send(twspy.Frame(twspy.OPCODE_TEXT, 'x'), twspy.ControlFrame(9, b''))
    frame = peer.recv()
    if isinstance(frame, twspy.ControlFrame):
        code, reason = frame.unpack_close()
        print(code + 1, reason.upper())
    whole, size = twspy.Frame.unpack(frame.pack())
    if whole is not None:
        print(whole.payload, size, whole.fragment(3), len(whole))
    peer.add_hook(send=lambda f: f)
    if peer.request is not None:
        print(peer.request.headers.get_all('X'), peer.request.headers['X'])
    if peer.response is not None:
        print(peer.response.status, peer.response.phrase)
    with peer:
        peer.handshake(server=True)
    for one in peer.recvn(3):
        print(one.final)
    twspy.Message(twspy.OPCODE_TEXT, 'x').fragment(3)
    twspy.BinaryMessage(bytearray(3)).frame(mask=True)
    twspy.CloseMessage()
    twspy.CloseMessage(1000, 'x')
    twspy.WebkitDeflateFrame(level=3)
    twspy.Headers({'a': 'b'}).items()


def errors() -> None:
    try:
        frames()
    except twspy.HandshakeError as error:
        print(error.status, error.headers.get('x'), error.body.decode())
        print(error.by_proxy)
    except twspy.SocketClosed as error:
        print(error.code, error.reason, error.ended_by, error.sent)
    except (twspy.ConcurrencyError, twspy.PingError, twspy.SSLError) as error:
        sys.exit(str(error))
    except twspy.WebSocketError:
        print(twspy.__version__)


def wrong() -> None:
    one = twspy.connect('ws://x/')
    twspy.Server(max_sise=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    twspy.Server(max_size='')  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    twspy.TextMessage(b'x')  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    twspy.BinaryMessage('x')  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    twspy.connect('', size=3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    one.send(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    twspy.Frame(1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
