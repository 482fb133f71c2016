"""What a bridged TLS connection does with bytes, ends and failures, against
the standard library's own TLS."""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any

import pytest
from certificates import HOST, Certificates
from rawends import tcp_pair
from tlsends import (
    SOON,
    HandPeer,
    Maker,
    check_rest,
    fill,
    pattern,
    read_all,
    read_exactly,
    reset,
    streams,
    thread_of,
    wait_until,
    wrap,
)

from twspy import _tls_bridge, _tls_stream
from twspy._tls_stream import CHUNK, SCRATCH, Outcome, Stream

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MIB = 1 << 20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing has next to no time."""
    monkeypatch.setattr(_tls_stream, 'CLOSE_TIMEOUT', 0.2)


# What a handshake agrees on


@pytest.mark.parametrize('version', VERSIONS)
def test_what_was_agreed_on(make: Maker, version: ssl.TLSVersion) -> None:
    make.limit(version)
    make.server_context.set_alpn_protocols(['http/1.1'])
    make.client_context.set_alpn_protocols(['h2', 'http/1.1'])
    ends = make.connect()
    assert ends.bridged.handshake_done
    assert ends.bridged.error is None
    assert ends.bridged.version == ends.peer.version()
    assert ends.bridged.cipher == ends.peer.cipher()
    assert ends.bridged.selected_alpn == 'http/1.1'
    expected = None if make.serves else make.certificates.server.der
    assert ends.bridged.peer_certificate == expected


def test_certificate_of_a_client(
    serve: Maker, certificates: Certificates
) -> None:
    serve.server_context = certificates.server_context(asks=True)
    serve.client_context = certificates.client_context(certificates.client)
    ends = serve.connect()
    assert ends.bridged.peer_certificate == certificates.client.der


def test_nothing_is_known_before_the_handshake(make: Maker) -> None:
    bridged, _ = make.start()
    assert not bridged.handshake_done
    assert bridged.error is None
    assert bridged.version is None
    assert bridged.cipher is None
    assert bridged.selected_alpn is None
    assert bridged.peer_certificate is None


# Bytes


@pytest.mark.parametrize('version', VERSIONS)
def test_echo_of_a_mebibyte(make: Maker, version: ssl.TLSVersion) -> None:
    make.limit(version)
    ends = make.connect()
    data = pattern(MIB)

    def echo() -> None:
        while got := ends.plain.recv(10000):
            ends.plain.sendall(got)
        ends.plain.shutdown(socket.SHUT_WR)

    with thread_of(echo):
        # One after the other, as an ssl.SSLSocket is not for two threads.
        for start in range(0, len(data), 30000):
            chunk = data[start : start + 30000]
            ends.peer.sendall(chunk)
            assert read_exactly(ends.peer, len(chunk)) == chunk
        ends.peer.unwrap()
    assert ends.bridged.error is None


def test_both_directions_at_once(make: Maker) -> None:
    data = pattern(MIB)
    ends = make.connect(by_hand=True)

    def read() -> None:
        assert read_exactly(ends.plain, len(data)) == data

    with thread_of(lambda: ends.plain.sendall(data)), thread_of(read):
        # A peer that writes everything before it reads anything.
        ends.peer.sendall(data)
        assert read_exactly(ends.peer, len(data)) == data


def test_bytes_one_by_one(make: Maker) -> None:
    ends = make.connect(by_hand=True)
    data = pattern(3000)
    for byte in ends.peer.encrypt(data[:1000]):
        ends.peer.sock.sendall(bytes([byte]))
    records = [ends.peer.encrypt(data[i : i + 1]) for i in range(1000, 3000)]
    ends.peer.sock.sendall(b''.join(records))
    assert b''.join(ends.plain.recv(1) for _ in data) == data
    for i in range(1000):
        ends.plain.sendall(data[i : i + 1])
    assert read_exactly(ends.peer, 1000) == data[:1000]


def test_data_in_the_same_breath_as_the_handshake(serve: Maker) -> None:
    bridged, theirs = serve.start()
    peer = HandPeer(theirs, serve.client_context, False)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    peer.flush()
    while not peer.outgoing.pending:
        peer.incoming.write(theirs.recv(65536))
        try:
            peer.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
    peer.sendall(b'at once')
    with socket.socket(fileno=bridged.detach()) as plain:
        plain.settimeout(SOON)
        assert plain.recv(100) == b'at once'


def test_what_a_client_writes_early_waits_for_the_handshake(
    dial: Maker,
) -> None:
    bridged, theirs = dial.start()
    with socket.socket(fileno=bridged.detach()) as plain:
        plain.sendall(b'GET / HTTP/1.1\r\n')
        with wrap(theirs, dial.server_context, True) as peer:
            assert peer.recv(100) == b'GET / HTTP/1.1\r\n'


# Back-pressure


def test_user_who_does_not_read_stops_the_peer(make: Maker) -> None:
    ends = make.connect(by_hand=True, small=True)
    count = ends.peer.fill()
    # Beside the 64 KiB in here the system has some: 4 * 32 KiB those by TCP,
    # 128 KiB the pair.
    assert count < MIB
    [stream] = streams()
    assert len(stream._to_plain) <= SCRATCH
    assert stream._incoming.pending <= CHUNK
    check_rest()
    with thread_of(ends.peer.flush):
        assert read_exactly(ends.plain, count) == pattern(count)
    ends.plain.sendall(b'on it goes')
    assert ends.peer.recv(100) == b'on it goes'


def test_peer_who_does_not_read_stops_the_user(make: Maker) -> None:
    ends = make.connect(small=True)
    count = fill(ends.plain)
    assert count < MIB
    [stream] = streams()
    assert len(stream._to_tcp) <= CHUNK + 1024
    assert stream._outgoing.pending == 0
    check_rest()
    ends.peer.sendall(b'the other way is free')
    assert ends.plain.recv(100) == b'the other way is free'
    assert read_exactly(ends.peer, count) == pattern(count)
    ends.plain.sendall(b'on it goes')
    assert ends.peer.recv(100) == b'on it goes'


def test_readers_of_little_lose_nothing(make: Maker) -> None:
    ends = make.connect(small=True)
    data = pattern(300_000)
    with thread_of(lambda: ends.peer.sendall(data)):
        got = b''
        while len(got) < len(data):
            got += ends.plain.recv(777)
        assert got == data
    with thread_of(lambda: ends.plain.sendall(data)):
        got = b''
        while len(got) < len(data):
            got += ends.peer.recv(777)
        assert got == data


def test_turn_is_bounded(serve: Maker) -> None:
    """However much there is, one turn leaves most of it."""
    ours, theirs = tcp_pair()
    inner, plain = socket.socketpair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = serve.server_context.wrap_bio(incoming, outgoing, server_side=True)
    for sock in (ours, inner):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB // 2)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    theirs.settimeout(SOON)
    outcome = Outcome()
    stream = Stream(ours, inner, tls, incoming, outgoing, outcome, None)
    stream.scratch = memoryview(bytearray(SCRATCH))
    peer = HandPeer(theirs, serve.client_context, False)
    with theirs, plain:
        with thread_of(peer.handshake):
            while not outcome.done:
                select.select([ours], [], [], SOON)
                stream.turn(select.POLLIN, 0)
        peer.sendall(bytes(2 * 16384))
        peer.fill()
        stream.turn(select.POLLIN, 0)
        assert 0 < len(plain.recv(4 * MIB)) <= 2 * SCRATCH
        stream.turn(select.POLLIN, 0)
        assert len(plain.recv(4 * MIB)) > 0
        stream.close()


# The end of a direction


@pytest.mark.parametrize('version', VERSIONS)
def test_user_ends_its_direction(make: Maker, version: ssl.TLSVersion) -> None:
    make.limit(version)
    ends = make.connect(by_hand=True)
    data = pattern(200_000)
    with thread_of(lambda: read_all(ends.peer)):
        ends.plain.sendall(data)
        ends.plain.shutdown(socket.SHUT_WR)
    assert ends.peer.sock.recv(1) == b''  # and a FIN
    # The other direction goes on.
    for _ in range(3):
        ends.peer.sendall(data)
        assert read_exactly(ends.plain, len(data)) == data
    check_rest()
    ends.peer.notify()
    assert ends.plain.recv(1) == b''
    wait_until(lambda: not streams())
    assert ends.bridged.error is None


@pytest.mark.parametrize('version', VERSIONS)
def test_user_ends_before_it_has_read_everything(
    make: Maker, version: ssl.TLSVersion
) -> None:
    make.limit(version)
    ends = make.connect(by_hand=True, small=True)
    count = ends.peer.fill()
    ends.plain.shutdown(socket.SHUT_WR)
    assert ends.peer.recv(1) == b''
    check_rest()
    with thread_of(ends.peer.flush):
        assert read_exactly(ends.plain, count) == pattern(count)
    ends.peer.notify()
    assert ends.plain.recv(1) == b''


@pytest.mark.parametrize('version', VERSIONS)
def test_close_notify_leaves_what_is_not_decrypted(
    make: Maker, version: ssl.TLSVersion
) -> None:
    make.limit(version)
    ends = make.connect(by_hand=True)
    ends.peer.sendall(b'behind')  # what servers send after a handshake
    assert ends.plain.recv(100) == b'behind'
    [stream] = streams()
    with _tls_bridge._turn:
        stream._incoming.write(ends.peer.encrypt(b'kept'))
        stream._notify()
    ends.peer.sendall(b' and more')
    assert read_exactly(ends.plain, 13) == b'kept and more'


@pytest.mark.parametrize('version', VERSIONS)
def test_peer_ends_its_direction(make: Maker, version: ssl.TLSVersion) -> None:
    make.limit(version)
    ends = make.connect(by_hand=True)
    ends.peer.sendall(b'the last')
    ends.peer.notify()
    assert read_all(ends.plain) == b'the last'
    check_rest()
    ends.plain.sendall(b'an answer')
    assert ends.peer.recv(100) == b'an answer'
    ends.plain.shutdown(socket.SHUT_WR)
    assert ends.peer.recv(1) == b''
    wait_until(lambda: not streams())
    assert ends.bridged.error is None


def test_peer_ends_while_the_user_does_not_read(make: Maker) -> None:
    ends = make.connect(by_hand=True, small=True)
    count = ends.peer.fill()

    def end() -> None:
        ends.peer.flush()
        ends.peer.notify()
        ends.peer.sock.shutdown(socket.SHUT_WR)

    # Both directions are over then: the system says so again and again.
    ends.plain.shutdown(socket.SHUT_WR)
    assert ends.peer.recv(1) == b''
    with thread_of(end):
        got = read_exactly(ends.plain, count // 2)
        check_rest()
        got += read_all(ends.plain)
    assert got == pattern(count)


def test_truncated_stream_is_an_end(make: Maker) -> None:
    ends = make.connect(by_hand=True)
    ends.peer.sendall(b'the last')
    ends.peer.sock.shutdown(socket.SHUT_WR)
    assert read_all(ends.plain) == b'the last'
    assert ends.bridged.error is None
    ends.plain.sendall(b'an answer')
    assert ends.peer.recv(100) == b'an answer'


def test_end_in_the_middle_of_a_record(make: Maker) -> None:
    ends = make.connect(by_hand=True)
    ends.peer.sendall(b'the last')
    ends.peer.sock.sendall(ends.peer.encrypt(bytes(1000))[:500])
    ends.peer.sock.shutdown(socket.SHUT_WR)
    assert read_all(ends.plain) == b'the last'


# The end of both


def test_user_closes(make: Maker) -> None:
    ends = make.connect(small=True)
    data = pattern(100_000)
    with thread_of(lambda: ends.plain.sendall(data)):
        assert read_exactly(ends.peer, 50_000) == data[:50_000]
    ends.plain.close()
    assert read_all(ends.peer) == data[50_000:]  # with a close_notify
    ends.peer.close()
    wait_until(lambda: not streams())


def test_user_closes_without_having_read(make: Maker) -> None:
    """A close with unread bytes resets, which must not eat what was sent."""
    ends = make.connect(by_hand=True, small=True)
    count = ends.peer.fill()
    ends.plain.sendall(b'goodbye')
    ends.plain.close()
    ends.peer.flush()
    ends.peer.sendall(pattern(50_000))
    assert read_all(ends.peer) == b'goodbye'
    assert count > 0
    ends.peer.close()
    wait_until(lambda: not streams())


def test_user_closes_and_peer_does_not_read(make: Maker, hasty: None) -> None:
    ends = make.connect(by_hand=True, small=True)
    fill(ends.plain)
    ends.plain.close()
    check_rest()
    wait_until(lambda: not streams())
    with pytest.raises((EOFError, ConnectionResetError)):
        read_all(ends.peer)


def test_user_closes_and_peer_stays(make: Maker, hasty: None) -> None:
    ends = make.connect(by_hand=True)
    ends.plain.close()
    assert read_all(ends.peer) == b''
    wait_until(lambda: not streams())


def test_user_closes_and_peer_talks_on(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listened to for so many bytes, not as long as there is time."""
    monkeypatch.setattr(_tls_stream, 'CLOSE_TIMEOUT', 1000)
    ends = make.connect(by_hand=True)
    ends.plain.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            ends.peer.sendall(bytes(16384))
    wait_until(lambda: not streams())


def test_reset_by_the_peer(make: Maker) -> None:
    ends = make.connect(by_hand=True)
    reset(ends.peer.sock)
    assert ends.plain.recv(1) == b''
    assert isinstance(ends.bridged.error, ConnectionResetError)
    wait_until(lambda: not streams())


@pytest.mark.parametrize('first', ['nothing', 'user ends', 'peer ends'])
def test_reset_while_nobody_reads(make: Maker, first: str) -> None:
    ends = make.connect(by_hand=True, small=True)
    if first == 'peer ends':
        ends.peer.notify()
        assert ends.plain.recv(1) == b''
        fill(ends.plain)
        reset(ends.peer.sock)
        wait_until(lambda: not streams())
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            ends.plain.send(b'x')
    else:
        if first == 'user ends':
            ends.plain.shutdown(socket.SHUT_WR)
        ends.peer.fill()
        reset(ends.peer.sock)
        wait_until(lambda: not streams())
        got = read_all(ends.plain)  # what was there before
        assert got == pattern(len(got))
    assert isinstance(ends.bridged.error, ConnectionResetError)


def test_peer_closes_while_the_user_writes(make: Maker) -> None:
    ends = make.connect()
    ends.peer.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            ends.plain.sendall(bytes(16384))
    wait_until(lambda: not streams())


def test_broken_record(make: Maker) -> None:
    ends = make.connect(by_hand=True)
    ends.peer.sendall(b'well')
    broken = bytearray(ends.peer.encrypt(b'ill'))
    broken[-1] ^= 1
    ends.peer.sock.sendall(broken)
    assert read_all(ends.plain) == b'well'
    assert isinstance(ends.bridged.error, ssl.SSLError)
    assert 'BAD_RECORD_MAC' in str(ends.bridged.error)
    with pytest.raises(ssl.SSLError, match='ALERT_BAD_RECORD_MAC'):
        ends.peer.recv(1)
    ends.peer.close()
    wait_until(lambda: not streams())


def test_broken_record_while_the_user_does_not_read(make: Maker) -> None:
    ends = make.connect(by_hand=True, small=True)
    count = ends.peer.fill()

    def spoil() -> None:
        ends.peer.flush()
        ends.peer.sock.sendall(b'\x17\x03\x03\x00\x20' + bytes(32))

    with thread_of(spoil):
        assert read_all(ends.plain) == pattern(count)
    assert 'BAD_RECORD_MAC' in str(ends.bridged.error)


# Handshakes that fail


def find_end(bridged: Any) -> None:
    """An engine finds an end, and not a reset, whatever it has written."""
    with socket.socket(fileno=bridged.detach()) as plain:
        plain.settimeout(SOON)
        assert plain.recv(1) == b''


@pytest.mark.parametrize(
    ('name', 'why'),
    [
        ('expired', 'certificate has expired'),
        ('stranger', 'unable to get local issuer certificate'),
        ('wrong_host', 'Hostname mismatch'),
    ],
)
def test_wrong_certificate_of_a_server(
    dial: Maker, certificates: Certificates, name: str, why: str
) -> None:
    context = certificates.server_context(getattr(certificates, name))
    bridged, theirs = dial.start()
    fd = bridged.detach()
    with socket.socket(fileno=fd) as plain:
        plain.sendall(b'GET / HTTP/1.1\r\n')  # which nobody reads
        with pytest.raises(ssl.SSLError, match='ALERT'):
            wrap(theirs, context, True).recv(1)
        plain.settimeout(SOON)
        assert plain.recv(1) == b''
        assert not bridged.handshake_done
        assert isinstance(bridged.error, ssl.SSLCertVerificationError)
        assert why in bridged.error.verify_message
        with pytest.raises(BrokenPipeError):
            plain.send(b'x')


def test_client_without_a_certificate(
    serve: Maker, certificates: Certificates
) -> None:
    serve.server_context = certificates.server_context(asks=True)
    bridged, theirs = serve.start()
    with wrap(theirs, serve.client_context, False) as peer:
        with pytest.raises(ssl.SSLError, match='ALERT_CERTIFICATE_REQUIRED'):
            peer.recv(1)
    find_end(bridged)
    assert not bridged.handshake_done
    assert isinstance(bridged.error, ssl.SSLError)
    assert bridged.error.reason == 'PEER_DID_NOT_RETURN_A_CERTIFICATE'


def test_server_wants_a_certificate(
    dial: Maker, certificates: Certificates
) -> None:
    """With TLS 1.3 it says so after the client's handshake is done."""
    context = certificates.server_context(asks=True)
    bridged, theirs = dial.start()
    with pytest.raises(ssl.SSLError, match='PEER_DID_NOT_RETURN'):
        wrap(theirs, context, True)
    find_end(bridged)
    assert bridged.handshake_done
    assert 'CERTIFICATE_REQUIRED' in str(bridged.error)


@pytest.mark.parametrize(
    'request_line', ['GET / HTTP/1.1', 'CONNECT example.org:443 HTTP/1.1']
)
def test_plain_http(serve: Maker, request_line: str) -> None:
    bridged, theirs = serve.start()
    theirs.sendall(request_line.encode() + b'\r\nHost: localhost\r\n\r\n')
    theirs.sendall(bytes(10_000))
    head, _, body = read_all(theirs).partition(b'\r\n\r\n')
    status, *fields = head.decode().split('\r\n')
    assert status == 'HTTP/1.1 400 Bad Request'
    assert 'Connection: close' in fields
    assert f'Content-Length: {len(body)}' in fields
    assert b'TLS' in body
    find_end(bridged)
    assert isinstance(bridged.error, ssl.SSLError)
    assert 'HTTP' in bridged.error.reason
    theirs.close()
    wait_until(lambda: not streams())


def test_something_else_than_tls(make: Maker) -> None:
    bridged, theirs = make.start()
    theirs.sendall(b'\0' * 100)
    find_end(bridged)
    assert isinstance(bridged.error, ssl.SSLError)
    assert not bridged.handshake_done


def test_peer_leaves_during_the_handshake(make: Maker) -> None:
    bridged, theirs = make.start()
    theirs.shutdown(socket.SHUT_WR)
    find_end(bridged)
    assert isinstance(bridged.error, ssl.SSLEOFError)
    assert 'before the TLS handshake was complete' in str(bridged.error)


def test_peer_resets_during_the_handshake(make: Maker) -> None:
    bridged, theirs = make.start()
    reset(theirs)
    find_end(bridged)
    assert isinstance(bridged.error, ConnectionResetError)


def test_user_leaves_during_the_handshake(make: Maker) -> None:
    bridged, theirs = make.start()
    bridged.close()
    while theirs.recv(65536):
        pass
    wait_until(lambda: not streams())
    assert bridged.error is None


def test_silent_peer(make: Maker) -> None:
    bridged, theirs = make.start(open_timeout=0.2)
    check_rest()
    find_end(bridged)
    assert isinstance(bridged.error, TimeoutError)
    assert 'within 0.2 s' in str(bridged.error)
    while theirs.recv(65536):
        pass


def test_peer_that_comes_byte_by_byte(serve: Maker) -> None:
    """The deadline is of the whole handshake."""
    bridged, theirs = serve.start(open_timeout=0.3)
    peer = HandPeer(theirs, serve.client_context, False)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    hello = peer.outgoing.read()
    theirs.settimeout(0.05)
    for byte in hello:
        theirs.send(bytes([byte]))
        try:
            assert theirs.recv(1) == b''
            break
        except TimeoutError:
            pass
    find_end(bridged)
    assert isinstance(bridged.error, TimeoutError)


def test_no_deadline_after_the_handshake(make: Maker) -> None:
    ends = make.connect(open_timeout=0.2)
    [stream] = streams()
    assert stream.deadline is None
    ends.plain.settimeout(0.5)
    with pytest.raises(TimeoutError):
        ends.plain.recv(1)


def test_endless_handshake(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls_stream, '_HANDSHAKE_MAX', 100)
    bridged, theirs = serve.start()
    peer = HandPeer(theirs, serve.client_context, False)
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    theirs.sendall(peer.outgoing.read()[:-1])
    find_end(bridged)
    assert isinstance(bridged.error, ssl.SSLError)
    assert 'expected at most 100' in str(bridged.error)


# What OpenSSL may ask for


class Refusing:
    """An ssl.SSLObject that wants to read before it writes, as it does in a
    renegotiation."""

    def __init__(self, tls: ssl.SSLObject) -> None:
        self._tls = tls
        self.refused: list[bytes] = []
        self.refuse = True

    def write(self, data: bytes | memoryview) -> int:
        if self.refuse:
            self.refused.append(bytes(data))
            raise ssl.SSLWantReadError
        assert not self.refused or bytes(data) == self.refused[0]
        self.refused.clear()
        return self._tls.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)


def test_write_that_has_to_wait(make: Maker) -> None:
    ends = make.connect()
    [stream] = streams()
    tls = stream._tls = Refusing(stream._tls)
    ends.plain.sendall(b'first')
    wait_until(lambda: tls.refused)
    ends.plain.sendall(b', second')
    check_rest()
    tls.refuse = False
    ends.peer.sendall(b'here you are')
    assert ends.plain.recv(100) == b'here you are'
    assert read_exactly(ends.peer, 13) == b'first, second'


def test_answers_by_openssl_are_bounded(serve: Maker) -> None:
    """A peer that has OpenSSL answer, and does not read that, is not read."""
    ends = serve.connect()
    [stream] = streams()
    stream._outgoing.write(bytes(CHUNK))
    assert not stream._wants_tcp()
    ends.plain.close()


def test_host_is_sent(dial: Maker) -> None:
    names: list[str | None] = []
    dial.server_context.sni_callback = lambda sock, name, context: (
        names.append(name)
    )
    dial.connect()
    assert names == [HOST]
