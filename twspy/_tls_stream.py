"""One connection that is encrypted by an `ssl.SSLContext`: what comes from
the peer is decrypted and handed on, what comes from our side is encrypted
and sent. Nothing here blocks, and nothing knows of threads."""

from __future__ import annotations

import enum
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT
from typing import cast

# Bytes that wait in here for each direction, beside what the system's own
# buffers hold.
CHUNK = 64 * 1024

# Plain text in one record at most (RFC 8446 section 5.1). Reads are at least
# as long, so that OpenSSL never keeps a part of one.
RECORD = 16 * 1024

# What a buffer must hold that the streams of a thread share.
SCRATCH = CHUNK + RECORD

# Seconds that a connection has to send what is left when its user is gone,
# and to tell the peer why it failed.
CLOSE_TIMEOUT = 2.0

# Bytes of a peer's handshake: room for chains of large certificates.
_HANDSHAKE_MAX = 256 * 1024

# Bytes that are read and thrown away at the end (see net/opening.c).
_LINGER_MAX = 256 * 1024

# How often one turn goes through both directions, so that a fast connection
# does not hold up the others.
_ROUNDS = 2

_GONE = POLLHUP | POLLERR | POLLNVAL
_NO_SIGNAL = getattr(socket, 'MSG_NOSIGNAL', 0)

# As the native encryption says it (net/tls_error.c).
_BODY = (
    b'this port speaks TLS, but the request came in plain HTTP: use https:// '
    b'or wss://\n'
)
_PLAIN_HTTP = (
    b'HTTP/1.1 400 Bad Request\r\n'
    b'Content-Type: text/plain; charset=utf-8\r\n'
    b'Content-Length: %d\r\n'
    b'Connection: close\r\n'
    b'\r\n' % len(_BODY)
) + _BODY


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    LINGER = enum.auto()  # encryption is over; last words, then silence
    OVER = enum.auto()


@dataclass(slots=True)
class Outcome:
    """What became of a handshake, and of the stream; any thread may look.

    done: the handshake has succeeded; what it agreed on stays as it is
    error: what ended the handshake or the stream, None where that was a
    proper end
    """

    done: bool = False
    error: Exception | None = None
    cipher: tuple[str, str, int] | None = None
    version: str | None = None
    alpn: str | None = None
    certificate: bytes | None = None


class Stream:
    """A connection between a peer, by TLS, and a user, in plain text.

    tcp: to the peer, encrypted; owned
    plain: to the user, a stream socket; owned
    tls: over the two memory BIOs, before its handshake
    scratch: SCRATCH bytes that nobody else uses during a turn
    patience: seconds that the handshake may take; None: for ever
    forget: called with each descriptor before it is closed
    deadline: when to call expire(), by time.monotonic(), or None

    Whoever waits for events asks `interests` after each turn. The poller has
    to report POLLHUP and POLLERR whatever it is asked for, as poll() does.
    """

    def __init__(
        self,
        tcp: socket.socket,
        plain: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        outcome: Outcome,
        patience: float | None,
    ) -> None:
        self.tcp = tcp
        self.plain = plain
        self.scratch = memoryview(b'')
        self.forget: Callable[[int], None] = _forget_nothing
        self.deadline = (
            None if patience is None else time.monotonic() + patience
        )
        self._tls = tls
        self._read_into = cast(Callable[[int, memoryview], int], tls.read)
        self._incoming = incoming
        self._outgoing = outgoing
        self._outcome = outcome
        self._patience = patience
        self._phase = _Phase.HANDSHAKE
        self._received = 0  # bytes, until the handshake is done
        self._lingered = 0  # bytes, from then on

        self._to_plain = memoryview(b'')  # decrypted, not taken yet
        self._to_tcp = memoryview(b'')  # encrypted, not taken yet
        self._unsent: bytes | None = None  # plain, refused by OpenSSL for now

        # Hints of the poller, until a call finds the opposite.
        self._tcp_readable = self._plain_readable = False
        self._tcp_full = self._plain_full = False
        # Both directions are over: the poller would report it for ever.
        self._tcp_hung_up = self._plain_gone = False

        self._tcp_ended = False  # FIN received
        self._peer_ended = False  # nothing more to decrypt
        self._end_told = False  # ... and the user knows
        self._plain_ended = False  # the user sends no more
        self._notified = False  # ... and close_notify is made
        self._tcp_shut = False  # ... and FIN sent

    @property
    def over(self) -> bool:
        """Nothing is left to do; everything is closed."""
        return self._phase is _Phase.OVER

    @property
    def unsent(self) -> bool:
        """Something that the user has sent has not left yet."""
        return self._phase in (_Phase.OPEN, _Phase.LINGER) and bool(
            self._to_tcp
            or self._unsent
            or self._outgoing.pending
            or (self._plain_gone and not self._plain_ended)
        )

    @property
    def interests(self) -> tuple[int | None, int | None]:
        """The events to wait for of `tcp` and of `plain`; None: not even for
        those that are always reported."""
        return (
            _mask(
                self._wants_tcp(),
                bool(self._to_tcp),
                self._tcp_hung_up,
            ),
            _mask(
                self._wants_plain(),
                bool(self._to_plain),
                self._plain_gone,
            ),
        )

    def turn(self, tcp_events: int = 0, plain_events: int = 0) -> bool:
        """Go on as far as it gets, within a bound of work. True: there is
        more to do without any further event."""
        self._note(tcp_events, plain_events)
        if self._phase is _Phase.HANDSHAKE:
            self._shake_hands()
        again = False
        if self._phase is _Phase.OPEN:
            again = self._carry()
        if self._phase is _Phase.LINGER:
            self._linger()
            again = False
        return again and not self.over

    def expire(self) -> None:
        """End it, as its deadline has passed."""
        if self._phase is _Phase.HANDSHAKE:
            self._note_error(
                TimeoutError(
                    'the TLS handshake was not complete within '
                    f'{self._patience:g} s'
                )
            )
        self.close()

    def fail(self, error: Exception) -> None:
        """End it because of an error that nobody has expected."""
        self._note_error(error)
        self.close()

    def close(self) -> None:
        """Close both ends; the user sees the end of the stream."""
        self._phase = _Phase.OVER
        self.deadline = None
        self._close_plain()
        if self.tcp.fileno() >= 0:
            self.forget(self.tcp.fileno())
            try:
                # A child that is being forked may have a copy yet.
                self.tcp.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.tcp.close()

    def abandon(self) -> None:
        """Close this process's descriptors; another one goes on with it."""
        self._phase = _Phase.OVER
        self.tcp.close()
        self.plain.close()

    # What to wait for

    def _wants_tcp(self) -> bool:
        if self._tcp_ended:
            return False
        if self._phase is _Phase.OPEN:
            # OpenSSL answers by itself, as to key updates: a peer that does
            # not read the answers gets no more of them.
            return (
                not self._peer_ended
                and not self._to_plain
                and self._outgoing.pending < CHUNK
            )
        return self._lingered < _LINGER_MAX

    def _wants_plain(self) -> bool:
        return (
            self._phase is _Phase.OPEN
            and not self._plain_ended
            and not self._to_tcp
            and self._unsent is None
        )

    def _note(self, tcp_events: int, plain_events: int) -> None:
        """Take note of events."""
        if plain_events & _GONE and not self._plain_gone:
            self._plain_gone = True
            self._to_plain = memoryview(b'')
            if self._phase is _Phase.HANDSHAKE:
                self.close()
                return
            self._set_deadline()
        if plain_events & (POLLIN | _GONE):
            self._plain_readable = True
        if plain_events & (POLLOUT | _GONE):
            self._plain_full = False
        if tcp_events & POLLERR and not self._wants_tcp():
            # Otherwise, recv() says so behind what was received before.
            number = self.tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._reset(OSError(number, os.strerror(number)))
            return
        if tcp_events & _GONE:
            self._tcp_hung_up = True
        if tcp_events & (POLLIN | _GONE):
            self._tcp_readable = True
        if tcp_events & (POLLOUT | _GONE):
            self._tcp_full = False

    def _set_deadline(self) -> None:
        if self.deadline is None:
            self.deadline = time.monotonic() + CLOSE_TIMEOUT

    # The handshake

    def _shake_hands(self) -> None:
        if self._tcp_readable:
            self._receive()
        if self._phase is not _Phase.HANDSHAKE:
            return  # reset
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._await_handshake()
            return
        except ssl.SSLError as error:
            if error.reason in ('HTTP_REQUEST', 'HTTPS_PROXY_REQUEST'):
                self._outgoing.read()
                self._to_tcp = memoryview(_PLAIN_HTTP)
            self._break(error)
            return
        tls, outcome = self._tls, self._outcome
        outcome.cipher = tls.cipher()
        outcome.version = tls.version()
        outcome.alpn = tls.selected_alpn_protocol()
        outcome.certificate = tls.getpeercert(True)
        outcome.done = True
        self.deadline = None
        self._phase = _Phase.OPEN

    def _await_handshake(self) -> None:
        """Send our part, and see whether the peer may still send its own."""
        self._flush()
        if self._phase is not _Phase.HANDSHAKE:
            return
        if self._tcp_ended:
            self._note_error(
                ssl.SSLEOFError(
                    ssl.SSL_ERROR_EOF,
                    'the peer closed the connection before the TLS handshake '
                    'was complete',
                )
            )
            self.close()
        elif self._received > _HANDSHAKE_MAX:
            self._break(
                ssl.SSLError(
                    ssl.SSL_ERROR_SSL,
                    f'the TLS handshake was not complete after '
                    f'{self._received} bytes, expected at most '
                    f'{_HANDSHAKE_MAX}',
                )
            )

    # The stream

    def _carry(self) -> bool:
        """Both directions; True where there is more to do."""
        for _ in range(_ROUNDS):
            moved = self._carry_in()
            if self._phase is _Phase.OPEN:
                moved = self._carry_out() or moved
            if self._phase is not _Phase.OPEN or not moved:
                return False
        return True

    def _carry_in(self) -> bool:
        """From the peer to the user; True where there may be more."""
        if self._to_plain and not self._feed():
            return False
        count = 0
        if not self._peer_ended:
            count = self._decrypt()
            if count == 0 and self._tcp_readable and self._wants_tcp():
                self._receive()
                if self._phase is _Phase.OPEN:
                    count = self._decrypt()
            if count > 0 and not self._plain_gone:
                # What is not taken at once is copied, as others need the
                # scratch.
                self._to_plain = self.scratch[:count]
                if not self._feed():
                    self._to_plain = memoryview(bytes(self._to_plain))
        if self._peer_ended and not self._to_plain:
            self._tell_end()
        return count > 0

    def _carry_out(self) -> bool:
        """From the user to the peer; True where there may be more."""
        if not self._flush():
            return False
        data: bytes | memoryview
        if self._unsent is not None:
            data = self._unsent
        elif not self._plain_ended:
            if not self._plain_readable:
                return False
            data = self._read_plain()
        if self._plain_ended:
            self._end()
            return False
        if not data:
            return False
        try:
            self._tls.write(data)
        except ssl.SSLWantReadError:  # a renegotiation is under way
            self._unsent = bytes(data)
        except ssl.SSLError as error:
            self._break(error)
            return False
        else:
            self._unsent = None
        return self._flush() and self._unsent is None

    def _end(self) -> None:
        """The user has ended its side, and everything has left: tell the
        peer; close where its side has ended, too."""
        if not self._notified:
            self._notified = True
            self._notify()
        if not self._flush() or not self._shut_tcp():
            return
        if self._peer_ended and (self._end_told or self._plain_gone):
            self.close()
        elif self._plain_gone:
            self._phase = _Phase.LINGER

    def _notify(self) -> None:
        """Make a close_notify (RFC 8446 section 6.1)."""
        # unwrap() goes on to look for the peer's and breaks on data, which
        # may still come: let it find nothing.
        rest = self._incoming.read()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the peer has not sent its own
        if rest:
            self._incoming.write(rest)

    # The end

    def _break(self, error: Exception) -> None:
        """Go on without encryption: send what OpenSSL has to say about an
        error, or whatever is in `_to_tcp`, and close."""
        self._note_error(error)
        self._phase = _Phase.LINGER
        self._unsent = None
        self.deadline = None
        self._set_deadline()

    def _linger(self) -> None:
        """Closing a socket with unread bytes resets the connection, and the
        reset may overtake what was written: so read until the peer ends."""
        if not self._to_plain or self._feed():
            self._close_plain()
        if self._flush():
            self._shut_tcp()
        while not self.over and self._tcp_readable and self._wants_tcp():
            self._lingered += self._read_tcp()
        if (
            self._tcp_shut
            and not self._wants_tcp()
            and self.plain.fileno() < 0
        ):
            self.close()

    def _reset(self, error: OSError) -> None:
        """The connection to the peer is lost."""
        self._note_error(error)
        if self._to_plain:
            self._feed()
        self.close()

    def _note_error(self, error: Exception) -> None:
        if self._outcome.error is None:
            # Its frames would keep us alive as long as the user keeps it.
            self._outcome.error = error.with_traceback(None)

    # One step each

    def _receive(self) -> None:
        """From the peer to OpenSSL."""
        count = self._read_tcp()
        if count > 0:
            self._incoming.write(self.scratch[:count])
            if self._phase is _Phase.HANDSHAKE:
                self._received += count

    def _read_tcp(self) -> int:
        """Read into the scratch; 0 where nothing has come."""
        try:
            count = self.tcp.recv_into(self.scratch, CHUNK)
        except BlockingIOError:
            self._tcp_readable = False
            return 0
        except OSError as error:
            self._reset(error)
            return 0
        if count == 0:
            self._tcp_ended = True
        if count < CHUNK:
            self._tcp_readable = False
        return count

    def _decrypt(self) -> int:
        """From OpenSSL into the scratch: so many bytes."""
        count = 0
        while count < CHUNK:
            try:
                got = self._read_into(RECORD, self.scratch[count:])
            except ssl.SSLWantReadError:
                # Nothing more will come: a peer may end without saying so,
                # as WebSockets have a close of their own.
                self._peer_ended = self._tcp_ended
                break
            except ssl.SSLZeroReturnError:
                got = 0
            except ssl.SSLError as error:
                self._peer_ended = True
                self._break(error)
                break
            if got == 0:
                self._peer_ended = True
                break
            count += got
        return count

    def _feed(self) -> bool:
        """From us to the user; True where all was taken."""
        while self._to_plain and not self._plain_full:
            try:
                sent = self.plain.send(self._to_plain, _NO_SIGNAL)
            except BlockingIOError:
                self._plain_full = True
            except OSError:
                # Nobody is there to take it; the poller says the rest.
                self._to_plain = memoryview(b'')
            else:
                self._to_plain = self._to_plain[sent:]
        return not self._to_plain

    def _tell_end(self) -> None:
        if not self._end_told:
            self._end_told = True
            try:
                self.plain.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the user is gone

    def _read_plain(self) -> memoryview:
        """Read what the user has sent into the scratch; empty where it has
        sent nothing."""
        try:
            count = self.plain.recv_into(self.scratch, CHUNK)
        except BlockingIOError:
            self._plain_readable = False
            return self.scratch[:0]
        except OSError:
            count = 0  # the user is gone without having read everything
        if count == 0:
            self._plain_ended = True
        if count < CHUNK:
            self._plain_readable = False
        return self.scratch[:count]

    def _flush(self) -> bool:
        """From OpenSSL to the peer; True where all was taken."""
        while not self.over:
            if not self._to_tcp:
                if not self._outgoing.pending:
                    return True
                self._to_tcp = memoryview(self._outgoing.read())
            if self._tcp_full:
                return False
            try:
                sent = self.tcp.send(self._to_tcp, _NO_SIGNAL)
            except BlockingIOError:
                self._tcp_full = True
                return False
            except OSError as error:
                self._reset(error)
                return False
            self._to_tcp = self._to_tcp[sent:]
        return False

    def _shut_tcp(self) -> bool:
        """Send a FIN; False where the peer is gone."""
        if not self._tcp_shut:
            self._tcp_shut = True
            try:
                self.tcp.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._reset(error)
        return not self.over

    def _close_plain(self) -> None:
        """Close it so that the user finds an end, and not a reset as there
        is for bytes that were not read."""
        if self.plain.fileno() < 0:
            return
        try:
            self.plain.shutdown(socket.SHUT_RDWR)
            while self.plain.recv_into(self.scratch or bytearray(RECORD)):
                pass
        except OSError:
            pass
        self.forget(self.plain.fileno())
        self.plain.close()


def _forget_nothing(fd: int) -> None:
    """For a stream that nobody polls yet."""


def _mask(reads: bool, writes: bool, hung_up: bool) -> int | None:
    """Events to wait for; of what has hung up only what can be read."""
    mask = POLLIN if reads else 0
    if hung_up:
        return mask or None
    return mask | POLLOUT if writes else mask
