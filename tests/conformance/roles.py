"""The two roles: our server, attacked by a raw client, and our client,
attacked by a raw server. An End is one connection of either, and both look
the same to a row."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from conformance.table import BYTES, JOINED, SERVER
from rawpeer import RawPeer, answer, read_request, request

import twspy

# Seconds that a row waits for what must happen.
SOON = 10.0


class Program:
    """What the program behind our end does and sees."""

    def __init__(self, echo: Mapping[str, Any]) -> None:
        self.echo = echo
        self.connection: twspy.Connection | None = None
        self.opened = threading.Event()
        self.received: list[twspy.Message] = []
        self.closed = threading.Event()
        self.told: twspy.CloseMessage | None = None
        self.errors: list[Exception] = []

    def onopen(self, connection: twspy.Connection) -> None:
        self.connection = connection
        self.opened.set()

    def onmessage(
        self, connection: twspy.Connection, message: twspy.Message
    ) -> None:
        self.received.append(message)
        connection.send(message, **self.echo)

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.told = message
        self.closed.set()

    def onerror(self, error: Exception) -> None:
        self.errors.append(error)


class Served(twspy.Server):
    """Our server: has a Program for each client."""

    def __init__(self, **options: Any) -> None:
        super().__init__(('127.0.0.1', 0), **options)
        self.programs: dict[Any, Program] = {}

    def onopen(self, client: twspy.Connection) -> None:
        self.programs[client.remote_address].onopen(client)

    def onmessage(
        self, client: twspy.Connection, message: twspy.Message
    ) -> None:
        self.programs[client.remote_address].onmessage(client, message)

    def onclose(
        self, client: twspy.Connection, message: twspy.CloseMessage
    ) -> None:
        self.programs[client.remote_address].onclose(message)

    def onerror(
        self, client: twspy.Connection | None, error: Exception
    ) -> None:
        if client is not None:
            self.programs[client.remote_address].onerror(error)


class Connected(twspy.Connection):
    """Our client."""

    program: Program

    def onopen(self) -> None:
        self.program.onopen(self)

    def onmessage(self, message: twspy.Message) -> None:
        self.program.onmessage(self, message)

    def onclose(self, message: twspy.CloseMessage) -> None:
        self.program.onclose(message)

    def onerror(self, error: Exception) -> None:
        self.program.onerror(error)


class Harness:
    """What rows share: our servers, one for each set of options, and the
    socket at which raw servers listen."""

    def __init__(self) -> None:
        self.servers: dict[str, Served] = {}
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=128)
        self.listener.settimeout(SOON)

    def server(self, options: Mapping[str, Any]) -> Served:
        key = repr(sorted(options.items()))
        if key not in self.servers:
            self.servers[key] = Served(**options)
            self.servers[key].start()
        return self.servers[key]

    def close(self) -> None:
        for server in self.servers.values():
            server.stop()
        self.listener.close()


class End:
    """One connection: our end, the program behind it, and its peer.

    role: of our end.
    split: how the peer's bytes arrive, see table.py; rows with a `run` of
        their own get it done by send().
    cut: for CUTS: the offset of the cut in all that the peer sends after the
        opening.
    """

    def __init__(
        self,
        harness: Harness,
        role: str,
        split: str,
        cut: int | None = None,
        options: Mapping[str, Any] | None = None,
        echo: Mapping[str, Any] | None = None,
    ) -> None:
        self.harness = harness
        self.role = role
        self.split = split
        self.cut = cut
        self.options = {} if options is None else options
        self.program = Program({} if echo is None else echo)
        self.peer: RawPeer
        # Of the opening, as the peer saw it: status and fields of our
        # server's answer, or method and fields of our client's request.
        self.head: dict[str, str] = {}
        self.failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._opening = b''
        self._sent = 0
        self._server: Served | None = None

    # ----------------------------------------------------------- the opening

    def connect(self) -> RawPeer:
        """Connect only: our server waits for a request, or our client's
        request is on its way."""
        if self.role == SERVER:
            server = self._server = self.harness.server(self.options)
            sock = socket.create_connection(server.address, SOON)
            server.programs[sock.getsockname()] = self.program
        else:
            self.run(self._be_client)
            sock, _ = self.harness.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = RawPeer(sock, SOON)
        return self.peer

    def _be_client(self) -> None:
        host, port = self.harness.listener.getsockname()
        connection = twspy.connect(
            f'ws://{host}:{port}/',
            connection_class=Connected,
            proxy=None,
            **self.options,
        )
        connection.program = self.program
        try:
            connection.receive_forever()
        finally:
            connection.close()

    def open(self, **fields: str) -> None:
        """The opening handshake, its end with the first bytes of send() where
        they are JOINED. `fields` are those of the peer."""
        self.connect()
        if self.role == SERVER:
            self._opening = request(**fields)
        else:
            _, self.head = read_request(self.peer)
            self._opening = answer(self.head, **fields)
        if self.split != JOINED:
            self._finish_opening(b'')

    def _finish_opening(self, first: bytes) -> None:
        opening, self._opening = self._opening, b''
        self.peer.send(opening + first)
        if self.role == SERVER:
            status, self.head = self.peer.read_head()
            assert status == 101, (status, self.head)

    # --------------------------------------------------------------- sending

    def send(self, data: bytes) -> None:
        """Send bytes in the way that the row is tried. Where our end has had
        enough of them the rest is lost, as it is on a network."""
        if self._opening:
            self._finish_opening(data)
            return
        start, self._sent = self._sent, self._sent + len(data)
        if self.split == BYTES:
            pieces = [bytes([byte]) for byte in data]
        elif self.cut is not None and start < self.cut < self._sent:
            pieces = [data[: self.cut - start], data[self.cut - start :]]
        else:
            pieces = [data]
        with suppress(BrokenPipeError, ConnectionResetError):
            for number, piece in enumerate(pieces, 1):
                self.peer.send(piece)
                if number < len(pieces):
                    self.wait_until_read()

    def restart(self, cut: int) -> None:
        """Begin anew on the same connection, with another cut."""
        self.cut, self._sent = cut, 0
        self.program.received.clear()

    def send_chopped(self, data: bytes, size: int) -> None:
        """Send bytes in pieces of a size, as Autobahn chops them: nothing
        waits until they are read."""
        for at in range(0, len(data), size):
            self.peer.send(data[at : at + size])

    def wait_until_read(self) -> None:
        """Returns once our end has read all bytes, so that those sent next
        can't come together with them."""
        ours = self.connection.sock
        deadline = time.monotonic() + SOON
        try:
            while unread(ours.fileno()):
                assert time.monotonic() < deadline, 'our end does not read'
                time.sleep(0)
        except (OSError, ValueError, twspy.WebSocketError):
            pass  # it closed, and reads no more

    # ------------------------------------------------------------- observing

    @property
    def connection(self) -> twspy.Connection:
        """Our end, as its program sees it."""
        assert self.program.opened.wait(SOON), 'did not open'
        assert self.program.connection is not None
        return self.program.connection

    def told(self) -> twspy.CloseMessage:
        """What onclose() got."""
        assert self.program.closed.wait(SOON), 'onclose() was not called'
        assert self.program.told is not None
        return self.program.told

    def run(self, function: Callable[[], object]) -> None:
        """Run something of our end's program in a thread of its own; see
        join(). What it raises is `failure`."""

        def guarded() -> None:
            try:
                function()
            except BaseException as error:
                self.failure = error

        thread = threading.Thread(target=guarded)
        self._threads.append(thread)
        thread.start()

    def settle(self) -> None:
        """Finish the opening, where nothing is to be joined to it."""
        if self._opening:
            self._finish_opening(b'')

    def join(self) -> None:
        """Wait for what run() started; for our client, too."""
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive(), 'a thread of our end hangs'

    def close(self) -> None:
        """End by a reset, so that no port is left waiting."""
        if not hasattr(self, 'peer'):
            return
        address = self.peer.address
        with suppress(OSError):
            self.peer.reset()
        self.join()
        if self._server is not None and self.program.opened.is_set():
            self.told()
            self._server.programs.pop(address, None)

    def __enter__(self) -> End:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def unread(fd: int) -> int:
    """Bytes that have come to a socket."""
    count: int = struct.unpack(
        'i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    )[0]
    return count
