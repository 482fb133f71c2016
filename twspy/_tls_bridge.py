"""TLS by way of an `ssl.SSLContext`, for an engine that knows plain sockets.

The encryption of the C core does not take an `ssl.SSLContext`. Where a user
has one, a thread stands between the peer and the engine: it owns the
connection to the peer and one end of a pair of sockets, and carries bytes
between them, through the memory BIOs of the module ssl. The engine gets the
other end, where it finds plain text.

One thread does so for all connections of a process. It starts with the first
one and ends a while after the last one.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import logging
import math
import os
import select
import socket
import ssl
import threading
import time
import weakref
from contextlib import ExitStack, suppress

from ._tls_stream import CHUNK, SCRATCH, Outcome, Stream

logger = logging.getLogger('twspy')

# Seconds without a connection until the thread ends.
_IDLE = 1.0

# Seconds that a fork waits for what the thread is at.
_FORK_PATIENCE = 1.0


class Bridged:
    """A connection whose encryption is done for us.

    What it tells is set once the handshake is done, at the latest when
    something can be read from the plain end. All of it may be read by any
    thread.
    """

    def __init__(self, plain: socket.socket, outcome: Outcome) -> None:
        self._plain = plain
        self._outcome = outcome

    def detach(self) -> int:
        """Take the descriptor of the plain end: a stream socket, not blocking
        and not inherited, which the caller has to close. -1 where it was
        taken before.

        Ending its direction (SHUT_WR) sends what is left, then a
        close_notify and a FIN; closing it does so too, within 2 s, and
        nothing more is received then. It comes to an end where the peer's
        direction does, where the connection breaks, and where the handshake
        fails: then `handshake_done` is false.
        """
        return self._plain.detach()

    def close(self) -> None:
        """Close the plain end, unless it was detached."""
        self._plain.close()

    @property
    def handshake_done(self) -> bool:
        """Whether the handshake has succeeded."""
        return self._outcome.done

    @property
    def error(self) -> Exception | None:
        """What has ended the handshake or the stream: an `ssl.SSLError` (of
        which `ssl.SSLCertVerificationError` is one), a TimeoutError, another
        OSError, or what the context's own callbacks have raised. None where
        nothing has, or the stream has a proper end."""
        return self._outcome.error

    @property
    def cipher(self) -> tuple[str, str, int] | None:
        """Name, version of TLS that defines it, and bits of its key, as
        `ssl.SSLObject.cipher()` has them."""
        return self._outcome.cipher

    @property
    def version(self) -> str | None:
        """The version of TLS in use, such as 'TLSv1.3'."""
        return self._outcome.version

    @property
    def selected_alpn(self) -> str | None:
        """The protocol that was agreed on by ALPN (RFC 7301)."""
        return self._outcome.alpn

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the peer has sent, DER, or None."""
        return self._outcome.certificate


def start(
    context: ssl.SSLContext,
    sock: socket.socket | int,
    *,
    server_side: bool,
    server_hostname: str | None = None,
    open_timeout: float | None = None,
) -> Bridged:
    """Encrypt a connected stream socket; returns at once.

    context: of the user; it is not changed. Its callbacks run on the thread
    of the bridge, where they hold up all connections.
    sock: a socket object, which is detached, or a descriptor; owned from
    then on. Where this raises, it stays with the caller, as it was but for
    being non-blocking.
    server_hostname: of a client, what the certificate must be for
    open_timeout: seconds that the handshake may take; None: for ever

    Raises TypeError where the context is none, ValueError where
    `server_hostname` is missing or no name, ssl.SSLError where the context is
    for the other side, OSError where there are no descriptors, RuntimeError
    where there are no threads. Any thread.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f'context is {type(context).__name__}, expected an ssl.SSLContext'
        )
    if server_side and server_hostname is not None:
        raise ValueError('server_hostname is of clients: leave it None')
    # wrap_bio() would just not check the name.
    if not server_side and context.check_hostname and not server_hostname:
        raise ValueError(
            f'server_hostname is {server_hostname!r}, but the context has '
            "check_hostname: expected the name in the server's certificate"
        )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(
        incoming,
        outgoing,
        server_side=server_side,
        server_hostname=server_hostname,
    )
    outcome = Outcome()
    with ExitStack() as undo:
        fd = sock if isinstance(sock, int) else sock.fileno()
        if fd < 0:
            raise OSError(errno.EBADF, 'sock is closed, expected a connection')
        tcp = socket.socket(fileno=fd)
        undo.callback(tcp.detach)
        tcp.setblocking(False)
        if tcp.family in (socket.AF_INET, socket.AF_INET6):
            # Records leave whole: waiting for more only adds delay.
            with suppress(OSError):  # of a connection that is over
                tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with _lock:
            ours, plain = _make_pair()
            undo.callback(plain.close)
            undo.callback(ours.close)
            _adopt(
                Stream(
                    tcp, ours, tls, incoming, outgoing, outcome, open_timeout
                )
            )
        undo.pop_all()
    if not isinstance(sock, int):
        sock.detach()
    return Bridged(plain, outcome)


def finish(patience: float = 1.0) -> None:
    """Wait until what users have sent has left, within a bound in seconds:
    for who is about to end the process."""
    with _lock:
        bridge = _bridge
        if bridge is None or bridge.is_current():
            return
        sent = threading.Event()
        bridge.askers.append(sent)
        bridge.wake()
    sent.wait(patience)


def _make_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that hold no more than what is held elsewhere."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
    return pair


class _Poller:
    """epoll or poll(): what the module selectors does, but that a descriptor
    which is watched for nothing still tells of its end."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, 'epoll') else None
        self._poll = select.poll()
        self._masks: dict[int, int] = {}

    def watch(self, fd: int, mask: int | None) -> None:
        """Choose what to wait for, 0: for its end only, None: not at all."""
        before = self._masks.get(fd)
        if mask == before:
            return
        poll = self._epoll or self._poll
        if mask is None:
            del self._masks[fd]
            poll.unregister(fd)
        elif before is None:
            poll.register(fd, mask)
            self._masks[fd] = mask
        else:
            self._masks[fd] = mask
            poll.modify(fd, mask)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """The events of descriptors; empty after so many seconds."""
        if self._epoll is not None:
            return self._epoll.poll(seconds)
        return self._poll.poll(
            None if seconds is None else math.ceil(seconds * 1000)
        )

    def close(self) -> None:
        """Close what it has; what it watches stays as it is."""
        if self._epoll is not None:
            self._epoll.close()


class _Bridge:
    """The thread, and the connections that it has.

    newcomers, askers: from other threads, with `_lock` held; what else there
    is belongs to the thread.
    """

    def __init__(self) -> None:
        self.newcomers: list[Stream] = []
        self.askers: list[threading.Event] = []  # see finish()
        self._thread = threading.Thread(
            target=self._run, name='twspy-tls', daemon=True
        )
        self._poller = _Poller()
        self._wake_receiver, self._wake_sender = os.pipe()
        for end in (self._wake_receiver, self._wake_sender):
            os.set_blocking(end, False)
        self._poller.watch(self._wake_receiver, select.POLLIN)
        self._scratch = memoryview(bytearray(SCRATCH))
        self._streams: dict[int, Stream] = {}  # each by both descriptors
        self._busy: list[Stream] = []  # with more to do than in one turn
        self._waiting: list[threading.Event] = []  # were in `askers`
        # When to look at the deadline of a stream, which may have changed.
        self._timers: list[tuple[float, int, weakref.ref[Stream]]] = []
        self._order = itertools.count()
        self._abandoned = False

    def start(self) -> None:
        """Start the thread; RuntimeError where there can't be another."""
        try:
            self._thread.start()
        except BaseException:
            self._close()
            raise

    def is_current(self) -> bool:
        """Whether this is the thread's own call."""
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """Have the thread look at what others have put down."""
        try:
            os.write(self._wake_sender, b'\0')
        except BlockingIOError:
            pass  # it is being woken

    def abandon(self) -> None:
        """In a forked child: close what belongs to the parent's thread.

        Nothing is sent, and nothing is taken out of the parent's epoll, which
        a child has a descriptor of.
        """
        self._abandoned = True
        for stream in [*self._streams.values(), *self.newcomers]:
            stream.abandon()
        self._close()

    def _close(self) -> None:
        self._poller.close()
        os.close(self._wake_receiver)
        os.close(self._wake_sender)

    def _run(self) -> None:
        try:
            while not self._abandoned:
                if self._pass() and self._retire():
                    return
        except BaseException as error:
            if not self._abandoned:
                logger.exception('the thread for TLS connections failed')
                self._give_up(error)

    def _retire(self) -> bool:
        """Make place for a successor, unless there is something to do."""
        global _bridge
        with _lock:
            if self.newcomers or self.askers:
                return False
            _bridge = None
            self._close()
        return True

    def _give_up(self, error: BaseException) -> None:
        """End all connections; the next one starts another thread."""
        global _bridge
        failure = RuntimeError('the thread for TLS connections failed')
        failure.__cause__ = error
        with _lock:
            _bridge = None
            for stream in {*self._streams.values(), *self.newcomers}:
                stream.forget = lambda fd: None  # the poller may be at fault
                stream.fail(failure)
            for sent in [*self.askers, *self._waiting]:
                sent.set()
            self._close()

    def _pass(self) -> bool:
        """Wait, and serve what is ready; True where nothing was for a while,
        and there is no connection."""
        asked = self._take_over()
        idle = not self._streams
        events = self._poller.wait(self._timeout(asked))
        work = {stream: [0, 0] for stream in self._busy}
        self._busy.clear()
        for fd, flags in events:
            if fd == self._wake_receiver:
                self._drain()
            elif (stream := self._streams.get(fd)) is not None:
                flags_of = work.setdefault(stream, [0, 0])
                flags_of[fd == stream.plain.fileno()] |= flags
        for stream, (tcp, plain) in work.items():
            with _turn:
                self._advance(stream, tcp, plain)
        self._expire()
        self._tell_askers()
        return idle and not events

    def _take_over(self) -> bool:
        """Take what others have put down; True where they wait for it."""
        with _lock:
            newcomers, self.newcomers = self.newcomers, []
            asked = bool(self.askers)
            self._waiting += self.askers
            self.askers.clear()
            for stream in newcomers:
                stream.scratch = self._scratch
                stream.forget = self._forget
                for sock in (stream.tcp, stream.plain):
                    self._streams[sock.fileno()] = stream
        for stream in newcomers:
            self._set_timer(stream)
            with _turn:
                self._advance(stream, 0, 0)
        return asked

    def _advance(self, stream: Stream, tcp: int, plain: int) -> None:
        """One turn of a connection, whose failure is its own."""
        deadline = stream.deadline
        try:
            if stream.turn(tcp, plain):
                self._busy.append(stream)
            tcp_mask, plain_mask = stream.interests
            if stream.tcp.fileno() >= 0:
                self._poller.watch(stream.tcp.fileno(), tcp_mask)
            if stream.plain.fileno() >= 0:
                self._poller.watch(stream.plain.fileno(), plain_mask)
        except Exception as error:
            if not self._abandoned:
                logger.exception('a TLS connection failed')
                stream.fail(error)
        if stream.deadline != deadline:
            self._set_timer(stream)

    def _forget(self, fd: int) -> None:
        """Let go of a descriptor that is about to be closed."""
        del self._streams[fd]
        self._poller.watch(fd, None)

    def _drain(self) -> None:
        try:
            while os.read(self._wake_receiver, 4096):
                pass
        except BlockingIOError:
            pass

    def _tell_askers(self) -> None:
        if self._waiting and not any(
            stream.unsent for stream in self._streams.values()
        ):
            for sent in self._waiting:
                sent.set()
            self._waiting.clear()

    def _timeout(self, asked: bool) -> float | None:
        """Seconds that there may be nothing to do."""
        if asked or self._busy:
            return 0.0
        if not self._streams:
            return _IDLE
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _set_timer(self, stream: Stream) -> None:
        if stream.deadline is None:
            return
        timers = self._timers
        if len(timers) > 64 + 4 * len(self._streams):
            # Most of them are of connections that have gone on.
            timers[:] = [each for each in timers if _is_due(each) is not None]
            heapq.heapify(timers)
        entry = stream.deadline, next(self._order), weakref.ref(stream)
        heapq.heappush(timers, entry)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            stream = _is_due(heapq.heappop(self._timers))
            if stream is not None:
                with _turn:
                    stream.expire()


def _is_due(
    timer: tuple[float, int, weakref.ref[Stream]],
) -> Stream | None:
    """The stream of a timer, unless its deadline has changed since."""
    stream = timer[2]()
    if stream is None or stream.deadline != timer[0]:
        return None
    return stream


def _adopt(stream: Stream) -> None:
    """Hand a connection to the thread; `_lock` is held."""
    global _bridge
    bridge = _bridge
    if bridge is None:
        bridge = _Bridge()
        bridge.start()
        _bridge = bridge
    bridge.newcomers.append(stream)
    bridge.wake()


# Of `_bridge`, and of what it gets from other threads. Reentrant, as signal
# handlers and finalizers run anywhere.
_lock = threading.RLock()
_bridge: _Bridge | None = None

# Held while the thread works on a connection. A fork waits for it: a child
# must find each descriptor in its place, to close it.
_turn = threading.RLock()


class _Held(threading.local):
    """What a thread that forks has locked."""

    def __init__(self) -> None:
        self.locks: list[threading.RLock] = []


_held = _Held()


def _before_fork() -> None:
    for lock in (_turn, _lock):
        # Not for ever: a callback of the user may run meanwhile.
        if lock.acquire(timeout=_FORK_PATIENCE):
            _held.locks.append(lock)


def _after_fork() -> None:
    while _held.locks:
        _held.locks.pop().release()


def _after_fork_in_child() -> None:
    global _lock, _turn, _bridge
    bridge, _bridge = _bridge, None
    _lock, _turn = threading.RLock(), threading.RLock()
    _held.locks.clear()
    if bridge is not None:
        bridge.abandon()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
