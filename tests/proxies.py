"""Small proxies on the loopback device, to test clients against.

They share no code with the package. Each runs in threads of its own, takes a
free port and is a context manager, at whose end nothing of it is left:

    with HttpProxy(username='u', password='p') as proxy:
        ...connect by way of proxy.address, or proxy.url...
        (tunnel,) = proxy.tunnels
        assert tunnel.host == 'echo.test'

No name is looked up: `names` says what leads where, and an address in figures
is taken as it is.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

# How long a proxy waits for a client or a server that must do something.
SOON = 20.0
# How many of the bytes that go through are kept, in each direction.
KEPT = 4096

Address = tuple[str, int]
# How a client has named the server: text in HTTP is a name or an address.
Form = Literal['name', 'ipv4', 'ipv6']


@dataclass
class Tunnel:
    """What a client has asked for, and the first bytes that went through."""

    host: str
    port: int
    form: Form
    # Of HTTP: the request line and the fields, whose names are in lower case.
    request_line: str = ''
    fields: dict[str, str] = field(default_factory=dict)
    # Username and password, where the client gave them.
    credentials: tuple[str, str] | None = None
    # What the client sent before it had the proxy's answer: none it should.
    early: bytes = b''
    # What went to the server (with `early`), and to the client.
    sent: bytes = b''
    received: bytes = b''
    opened: bool = False


class Proxy:
    """What both kinds have in common.

    `username`: who may pass; `None` for everybody. `names`: where a name, or
    a name and a port, leads; what is not in there is refused, unless it is
    an address in figures or `localhost`. `answer`: sent in place of the
    answer to the request; the connection then ends. `behind`: sent together
    with a good answer, before the server has said anything. `tls`: the
    proxy itself is reached by TLS.
    """

    scheme = ''

    def __init__(
        self,
        *,
        username: str | None = None,
        password: str = '',
        names: dict[str | Address, Address | str] | None = None,
        answer: bytes | None = None,
        behind: bytes = b'',
        tls: ssl.SSLContext | None = None,
        host: str = '127.0.0.1',
    ) -> None:
        self.username = username
        self.password = password
        self.names: dict[str | Address, Address | str] = {
            'localhost': '127.0.0.1'
        }
        self.names |= names or {}
        self.answer = answer
        self.behind = behind
        self.tls = tls
        # In the order of their requests; those that were refused as well.
        self.tunnels: list[Tunnel] = []
        # How many connections there were, whatever was asked on them.
        self.accepted = 0
        self._lock = threading.Lock()
        self._closed = False
        self._socks: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._wake, self._waker = socket.socketpair()
        self.address: Address = self._listener.getsockname()[:2]
        self._start(self._accept)

    @property
    def url(self) -> str:
        """The proxy as a URL, with its credentials."""
        host, port = self.address
        host = f'[{host}]' if ':' in host else host
        login = ''
        if self.username is not None:
            login = f'{self.username}:{self.password}@'
        return f'{self.scheme}://{login}{host}:{port}'

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            socks = list(self._socks)
        self._waker.close()
        for sock in socks:
            self._break(sock)
        # The first of them starts the others, and has ended then.
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._wake.close()

    def drop(self) -> None:
        """End the connections, as a proxy that restarts does."""
        with self._lock:
            socks = list(self._socks)
        for sock in socks:
            self._break(sock)

    @staticmethod
    def _break(sock: socket.socket) -> None:
        try:
            # Not that of an SSLSocket, whose state belongs to its thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def _start(self, function: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(
            target=function,
            args=args,
            name=f'{type(self).__name__}-{len(self._threads)}',
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _keep(self, sock: socket.socket) -> None:
        """To be broken by close(), even where that has been called."""
        with self._lock:
            self._socks.add(sock)
            closed = self._closed
        if closed:
            self._break(sock)

    def _drop(self, sock: socket.socket) -> None:
        with self._lock:
            self._socks.discard(sock)
        sock.close()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                return
            sock, _ = self._listener.accept()
            self.accepted += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        self._keep(sock)
        try:
            sock.settimeout(SOON)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                plain = sock
                sock = self.tls.wrap_socket(
                    plain, server_side=True, do_handshake_on_connect=False
                )
                with self._lock:
                    self._socks.discard(plain)
                self._keep(sock)
                sock.do_handshake()
            tunnel = self._negotiate(sock)
            if tunnel is not None:
                self._open(sock, tunnel)
        except (OSError, EOFError):
            pass  # a client that is gone
        finally:
            self._drop(sock)

    def _negotiate(self, sock: socket.socket) -> Tunnel | None:
        """What the client asks for; None where that was refused."""
        raise NotImplementedError

    def _refuse_for(self, sock: socket.socket, error: OSError) -> None:
        """Say that the server can't be reached."""
        raise NotImplementedError

    def _good_answer(self) -> bytes:
        raise NotImplementedError

    def _open(self, sock: socket.socket, tunnel: Tunnel) -> None:
        try:
            server = self._connect(tunnel)
        except OSError as error:
            self._refuse_for(sock, error)
            return
        self._keep(server)
        try:
            tunnel.opened = True
            sock.sendall(self._good_answer() + self.behind)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Relay(sock, server, tunnel).run()
        finally:
            self._drop(server)

    def _connect(self, tunnel: Tunnel) -> socket.socket:
        """Raise OSError where the server can't be reached."""
        host, port = tunnel.host, tunnel.port
        found = self.names.get((host, port), self.names.get(host))
        if found is None:
            if tunnel.form == 'name':
                raise socket.gaierror(f'unknown name {host}')
            found = host
        address = (found, port) if isinstance(found, str) else found
        return socket.create_connection(address, SOON)


class _Relay:
    """Copies both ways until both have ended, or one is gone.

    In one thread, as an SSLSocket must not be used by two.
    """

    def __init__(
        self, client: socket.socket, server: socket.socket, tunnel: Tunnel
    ) -> None:
        self.client = client
        self.server = server
        self.tunnel = tunnel
        # What is to be written to each, and whether nothing will follow.
        self.out = {client: bytearray(), server: bytearray()}
        self.last = {client: False, server: False}
        client.setblocking(False)
        server.setblocking(False)
        if tunnel.early:
            self.record(client, tunnel.early)

    def record(self, source: socket.socket, data: bytes) -> None:
        tunnel = self.tunnel
        if source is self.client:
            tunnel.sent += data[: KEPT - len(tunnel.sent)]
            self.out[self.server] += data
        else:
            tunnel.received += data[: KEPT - len(tunnel.received)]
            self.out[self.client] += data

    def read(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if data:
            self.record(source, data)
        else:
            self.last[target] = True

    def write(self, target: socket.socket) -> None:
        out = self.out[target]
        try:
            del out[: target.send(out)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    def run(self) -> None:
        ends = [(self.client, self.server), (self.server, self.client)]
        ended: set[socket.socket] = set()
        while len(ended) < 2:
            reading = [
                source
                for source, target in ends
                if not self.last[target] and len(self.out[target]) < 1 << 18
            ]
            writing = [sock for sock, out in self.out.items() if out]
            pending = any(
                isinstance(sock, ssl.SSLSocket) and sock.pending()
                for sock in reading
            )
            ready, writable, _ = select.select(
                reading, writing, [], 0 if pending else None
            )
            for source, target in ends:
                if source in ready or (pending and source in reading):
                    self.read(source, target)
                if target in writable or (target in writing and pending):
                    self.write(target)
            for target in self.out:
                if (
                    self.last[target]
                    and not self.out[target]
                    and target not in ended
                ):
                    ended.add(target)
                    if isinstance(target, ssl.SSLSocket):
                        return  # it has no half that could be closed
                    target.shutdown(socket.SHUT_WR)


class HttpProxy(Proxy):
    """CONNECT of RFC 9110 section 9.3.6, with Basic where it is asked for.

    `fields`: more lines for the head of a good answer.
    """

    def __init__(self, *, fields: bytes = b'', **options: object) -> None:
        self.fields = fields
        super().__init__(**options)  # type: ignore[arg-type]
        self.scheme = 'http' if self.tls is None else 'https'

    def _negotiate(self, sock: socket.socket) -> Tunnel | None:
        buffer = b''
        while b'\r\n\r\n' not in buffer:
            buffer += _receive(sock)
        head, early = buffer.split(b'\r\n\r\n', 1)
        request_line, *lines = head.decode('latin-1').split('\r\n')
        pairs = (line.split(': ', 1) for line in lines)
        fields = {name.lower(): value for name, value in pairs}
        method, target, _ = request_line.split(' ')
        if method != 'CONNECT':
            self._refuse(sock, 405, 'Method Not Allowed')
            return None
        host, _, port = target.rpartition(':')
        host = host.removeprefix('[').removesuffix(']')
        tunnel = Tunnel(
            host,
            int(port),
            _form(host),
            request_line,
            fields,
            _basic(fields.get('proxy-authorization', '')),
            early,
        )
        self.tunnels.append(tunnel)
        if self.answer is not None:
            sock.sendall(self.answer)
            return None
        if self.username is not None and tunnel.credentials != (
            self.username,
            self.password,
        ):
            self._refuse(
                sock,
                407,
                'Proxy Authentication Required',
                'Proxy-Authenticate: Basic realm="test"\r\n',
            )
            return None
        return tunnel

    def _good_answer(self) -> bytes:
        line = b'HTTP/1.1 200 Connection established\r\n'
        return line + self.fields + b'\r\n'

    def _refuse_for(self, sock: socket.socket, error: OSError) -> None:
        self._refuse(sock, 502, 'Bad Gateway', body=str(error))

    def _refuse(
        self,
        sock: socket.socket,
        status: int,
        phrase: str,
        fields: str = '',
        body: str = 'the test proxy says no',
    ) -> None:
        sock.sendall(
            f'HTTP/1.1 {status} {phrase}\r\n{fields}'
            f'Content-Length: {len(body)}\r\n\r\n{body}'.encode()
        )


class SocksProxy(Proxy):
    """SOCKS 5 of RFC 1928, with the login of RFC 1929 where it is asked for.

    `reply`: the code of RFC 1928 section 6 with which every request is
    refused. `bound`: what the reply says that the proxy is bound to, a name or
    an address; its length differs.
    """

    scheme = 'socks5'

    def __init__(
        self, *, reply: int = 0, bound: str = '127.0.0.1', **options: object
    ) -> None:
        self.reply = reply
        self.bound = bound
        super().__init__(**options)  # type: ignore[arg-type]

    def _negotiate(self, sock: socket.socket) -> Tunnel | None:
        version, count = _exactly(sock, 2)
        methods = _exactly(sock, count)
        method = 0 if self.username is None else 2
        if version != 5 or method not in methods:
            sock.sendall(b'\x05\xff')
            return None
        sock.sendall(bytes([5, method]))
        credentials = None
        if method == 2:
            credentials = self._login(sock)
            if credentials != (self.username, self.password):
                sock.sendall(b'\x01\x01')
                return None
            sock.sendall(b'\x01\x00')
        version, command, _, kind = _exactly(sock, 4)
        form: Form
        if kind == 1:
            form = 'ipv4'
            host = str(ipaddress.IPv4Address(_exactly(sock, 4)))
        elif kind == 4:
            form = 'ipv6'
            host = str(ipaddress.IPv6Address(_exactly(sock, 16)))
        else:
            form = 'name'
            host = _exactly(sock, _exactly(sock, 1)[0]).decode('latin-1')
        port = int.from_bytes(_exactly(sock, 2), 'big')
        tunnel = Tunnel(host, port, form, credentials=credentials)
        self.tunnels.append(tunnel)
        if self.answer is not None:
            sock.sendall(self.answer)
            return None
        if self.reply != 0 or version != 5 or command != 1:
            self._refuse(sock, self.reply or 7)
            return None
        return tunnel

    def _good_answer(self) -> bytes:
        return b'\x05\x00\x00' + self._bound()

    def _refuse_for(self, sock: socket.socket, error: OSError) -> None:
        self._refuse(
            sock, 5 if isinstance(error, ConnectionRefusedError) else 4
        )

    def _login(self, sock: socket.socket) -> tuple[str, str]:
        _, length = _exactly(sock, 2)
        username = _exactly(sock, length).decode()
        return username, _exactly(sock, _exactly(sock, 1)[0]).decode()

    def _bound(self) -> bytes:
        port = (4660).to_bytes(2, 'big')
        form = _form(self.bound)
        if form == 'name':
            name = self.bound.encode()
            return bytes([3, len(name)]) + name + port
        packed = ipaddress.ip_address(self.bound).packed
        return (b'\x01' if form == 'ipv4' else b'\x04') + packed + port

    def _refuse(self, sock: socket.socket, code: int) -> None:
        sock.sendall(bytes([5, code, 0, 1]) + bytes(6))


def _receive(sock: socket.socket, size: int = 65536) -> bytes:
    data = sock.recv(size)
    if not data:
        raise EOFError
    return data


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b''
    while len(data) < size:
        data += _receive(sock, size - len(data))
    return data


def _form(host: str) -> Form:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 'name'
    return 'ipv4' if version == 4 else 'ipv6'


def _basic(value: str) -> tuple[str, str] | None:
    scheme, _, text = value.partition(' ')
    if scheme.lower() != 'basic':
        return None
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    username, _, password = plain.partition(':')
    return username, password
