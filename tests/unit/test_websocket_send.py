"""send() and hooks of an open websocket, against a peer that is made of a
plain socket."""

import errno
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from rawends import Ends, fill_up, in_thread, masks, wait_until_receiving
from rawpeer import BINARY, CONTINUATION, PING, TEXT, RawPeer, pack

import twspy
from twspy import Frame, ProtocolError, SocketClosed

# --- masking ---


def test_client_masks_whatever_the_frame_says(client: Ends) -> None:
    sock, peer = client
    for frame in (Frame(TEXT, 'x'), Frame(TEXT, 'x', mask=True)):
        sock.send(frame)
        got = peer.read_frame()
        assert (got.opcode, got.payload, got.masked) == (TEXT, b'x', True)


def test_server_never_masks(server: Ends) -> None:
    sock, peer = server
    for frame in (Frame(TEXT, 'x'), Frame(TEXT, 'x', b'abcd')):
        sock.send(frame)
        got = peer.read_frame()
        assert (got.opcode, got.payload, got.masked) == (TEXT, b'x', False)


def keys_of(peer: RawPeer, count: int) -> list[bytes]:
    """The keys of so many empty frames."""
    data = peer.read_exactly(count * 6)
    return [data[i + 2 : i + 6] for i in range(0, len(data), 6)]


def test_every_client_frame_has_a_fresh_key(client: Ends) -> None:
    sock, peer = client
    frame = Frame(BINARY, b'', b'same')
    for _ in range(100):
        sock.send(*[frame] * 20)
    keys = keys_of(peer, 2000)
    assert len(set(keys)) >= 1999  # a birthday in 2**32 is forgiven
    assert b'same' not in keys


def test_a_forked_child_draws_other_keys(client: Ends) -> None:
    sock, peer = client
    sock.send(Frame(BINARY, b''))  # the pool is filled before the fork
    keys_of(peer, 1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sock.send(*[Frame(BINARY, b'')] * 50)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    child = keys_of(peer, 50)
    sock.send(*[Frame(BINARY, b'')] * 50)
    parent = keys_of(peer, 50)
    assert len(set(child + parent)) >= 99


def test_client_refuses_masked_frames(client: Ends) -> None:
    sock, peer = client
    peer.send(pack(TEXT, b'x', mask=True))
    with pytest.raises(ProtocolError) as caught:
        sock.recv()
    assert caught.value.code == 1002


def test_server_refuses_unmasked_frames(server: Ends) -> None:
    sock, peer = server
    peer.send(pack(TEXT, b'x', mask=False))
    with pytest.raises(ProtocolError) as caught:
        sock.recv()
    assert caught.value.code == 1002


# --- sending ---


@pytest.mark.parametrize('size', [0, 1, 125, 126, 65535, 65536, 300_000])
def test_frames_of_all_sizes_go_both_ways(either: Ends, size: int) -> None:
    sock, peer = either
    payload = random.Random(size).randbytes(size)
    sender = in_thread(lambda: sock.send(Frame(BINARY, payload)))
    assert peer.read_frame().payload == payload
    assert sender() is None
    sender = in_thread(
        lambda: peer.send_frame(BINARY, payload, mask=masks(sock))
    )
    frame = sock.recv()
    assert (frame.opcode, frame.payload) == (BINARY, payload)
    assert sender() is None


def test_send_takes_any_number_of_frames(either: Ends) -> None:
    sock, peer = either
    sock.send()
    sock.send(
        Frame(TEXT, 'a', final=False),
        twspy.ControlFrame(PING, b'p'),
        Frame(CONTINUATION, 'b', rsv1=True),
    )
    frames = [peer.read_frame() for _ in range(3)]
    assert [(f.opcode, f.payload, f.fin, f.rsv) for f in frames] == [
        (TEXT, b'a', False, 0),
        (PING, b'p', True, 0),
        (CONTINUATION, b'b', True, 4),
    ]


def test_send_takes_frames_only(either: Ends) -> None:
    sock, peer = either
    for wrong in ('text', b'bytes', None, twspy.TextMessage('x')):
        with pytest.raises(TypeError, match='Frame'):
            sock.send(Frame(TEXT, 'not sent either'), wrong)  # type: ignore[arg-type]
    sock.send(Frame(TEXT, 'next'))
    assert peer.read_frame().payload == b'next'


def test_send_to_a_peer_that_is_gone(either: Ends) -> None:
    sock, peer = either
    peer.reset()
    frame = Frame(BINARY, bytes(1000))
    with pytest.raises(SocketClosed) as caught:
        for _ in range(100):
            sock.send(frame)
            time.sleep(0.01)
    assert caught.value.code == 1006
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno in (errno.ECONNRESET, errno.EPIPE)
    with pytest.raises(SocketClosed):
        sock.send(frame)


@pytest.mark.parametrize('size', [10, 5000, 1 << 20])
def test_nonblocking_send_loses_nothing(narrow: Ends, size: int) -> None:
    sock, peer = narrow
    payload = random.Random(1).randbytes(size)
    count = fill_up(sock, payload)
    assert count >= 1
    # The rest of the last frame goes out before anything else.
    reader = in_thread(
        lambda: [peer.read_frame().payload for _ in range(count + 1)]
    )
    sock.settimeout(10)
    sock.send(Frame(TEXT, 'last'))
    assert reader() == [payload] * count + [b'last']


def test_send_times_out_with_nothing_sent(narrow: Ends) -> None:
    sock, peer = narrow
    payload = bytes(100_000)
    count = fill_up(sock, payload)
    sock.settimeout(0.1)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match='timed out'):
        sock.send(Frame(TEXT, 'refused'))
    assert 0.09 < time.monotonic() - start < 5
    reader = in_thread(
        lambda: [peer.read_frame().payload for _ in range(count + 1)]
    )
    sock.settimeout(10)
    sock.send(Frame(TEXT, 'taken'))
    assert reader() == [payload] * count + [b'taken']


def test_timeout_in_the_middle_of_a_frame_is_no_error(narrow: Ends) -> None:
    sock, peer = narrow
    payload = random.Random(2).randbytes(1 << 20)
    sock.settimeout(0.1)
    start = time.monotonic()
    sock.send(Frame(BINARY, payload))  # more than the system can hold
    assert 0.09 < time.monotonic() - start < 5
    with pytest.raises(TimeoutError):
        sock.send(Frame(TEXT, 'x'))
    reader = in_thread(lambda: [peer.read_frame().payload for _ in range(2)])
    sock.settimeout(10)
    sock.send(Frame(TEXT, 'y'))
    assert reader() == [payload, b'y']


def test_recv_goes_on_sending(narrow: Ends) -> None:
    sock, peer = narrow
    payload = random.Random(3).randbytes(1 << 20)
    sock.settimeout(0.05)
    sock.send(Frame(BINARY, payload))

    def read_then_answer() -> bytes:
        got = peer.read_frame().payload
        peer.send_frame(TEXT, b'thanks', mask=masks(sock))
        return got

    reader = in_thread(read_then_answer)
    sock.settimeout(30)
    assert sock.recv().payload == b'thanks'
    assert reader() == payload


def test_recv_goes_on_sending_for_another_thread(narrow: Ends) -> None:
    sock, peer = narrow
    mask = masks(sock)
    payload = random.Random(4).randbytes(1 << 20)
    receiver = in_thread(sock.recv)
    wait_until_receiving(sock)
    sock.send(Frame(TEXT, 'small'))
    assert peer.read_frame().payload == b'small'
    peer.send_frame(TEXT, b'first', mask=mask)
    assert receiver().payload == b'first'  # type: ignore[attr-defined]
    receiver = in_thread(sock.recv)
    wait_until_receiving(sock)
    sock.settimeout(0.05)
    sock.send(Frame(BINARY, payload))  # its rest is left to the receiver
    assert peer.read_frame().payload == payload
    peer.send_frame(TEXT, b'second', mask=mask)
    assert receiver().payload == b'second'  # type: ignore[attr-defined]


def test_frames_of_threads_stay_whole(narrow: Ends) -> None:
    sock, peer = narrow
    count = 60

    def send(number: int) -> None:
        payload = bytes([number]) * 20_000
        for _ in range(count):
            sock.send(Frame(BINARY, payload), Frame(TEXT, bytes([number])))

    senders = [in_thread(lambda n=n: send(n)) for n in range(4)]  # type: ignore[misc]
    for _ in range(4 * count):
        large, small = peer.read_frame(), peer.read_frame()
        assert (large.opcode, small.opcode) == (BINARY, TEXT)
        assert large.payload == small.payload * 20_000
    assert [join() for join in senders] == [None] * 4


# --- hooks ---


def test_hooks_are_called_in_order(either: Ends) -> None:
    sock, peer = either
    calls: list[str] = []

    def hook(name: str) -> Callable[[Frame], Frame]:
        def run(frame: Frame) -> Frame:
            calls.append(name)
            return Frame(frame.opcode, frame.payload + name.encode())

        return run

    sock.add_hook(send=hook('a'), recv=hook('1'))
    sock.add_hook(hook('b'), hook('2'))
    sock.add_hook(send=hook('c'), prepend=True)
    sock.add_hook(recv=hook('3'), prepend=True)
    sock.add_hook()
    sock.send(Frame(TEXT, ''), Frame(TEXT, '-'))
    assert [peer.read_frame().payload for _ in range(2)] == [b'cab', b'-cab']
    assert calls == list('cabcab')
    calls.clear()
    peer.send_frame(TEXT, b'+', mask=masks(sock))
    assert sock.recv().payload == b'+312'
    assert calls == list('312')


def test_hooks_see_control_frames(either: Ends) -> None:
    sock, peer = either
    seen: list[tuple[int, bytes]] = []

    def note(frame: Frame) -> Frame:
        seen.append((frame.opcode, frame.payload))
        return frame

    sock.add_hook(note, note)
    sock.send(twspy.ControlFrame(PING, b'x'))
    assert peer.read_frame().opcode == PING
    peer.send_frame(PING, b'y', mask=masks(sock))
    sock.recv()
    assert seen == [(PING, b'x'), (PING, b'y')]


@pytest.mark.parametrize('wrong', [None, 'x', twspy.TextMessage('x')])
def test_hook_that_returns_no_frame(either: Ends, wrong: object) -> None:
    sock, peer = either
    sock.add_hook(lambda frame: wrong, lambda frame: wrong)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r'send hook .* expected a Frame'):
        sock.send(Frame(TEXT, 'x'))
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    with pytest.raises(TypeError, match=r'recv hook .* expected a Frame'):
        sock.recv()


def test_hook_that_raises(either: Ends) -> None:
    sock, peer = either
    fail = True

    def hook(frame: Frame) -> Frame:
        if fail:
            raise KeyError('mine')
        return frame

    sock.add_hook(hook, hook)
    mask = masks(sock)
    with pytest.raises(KeyError, match='mine'):
        sock.send(Frame(TEXT, 'x'))
    peer.send_frame(TEXT, b'1', mask=mask)
    with pytest.raises(KeyError, match='mine'):
        sock.recv()
    fail = False
    sock.send(Frame(TEXT, 'y'))
    assert peer.read_frame().payload == b'y'
    peer.send_frame(TEXT, b'2', mask=mask)
    assert sock.recv().payload == b'2'


def test_hook_may_add_and_close(either: Ends) -> None:
    sock, _ = either

    def hook(frame: Frame) -> Frame:
        sock.add_hook(hook, hook)
        sock.close()
        return frame

    sock.add_hook(hook, hook)
    with pytest.raises(OSError, match='closed'):
        sock.send(Frame(TEXT, 'x'))


def test_recv_hook_may_close(either: Ends) -> None:
    sock, peer = either

    def hook(frame: Frame) -> Frame:
        sock.close()
        return frame

    sock.add_hook(recv=hook)
    peer.send_frame(TEXT, b'x', mask=masks(sock))
    assert sock.recv().payload == b'x'
    assert sock.fileno() == -1
    peer.expect_end()


@pytest.mark.parametrize('wrong', ['x', 1, object()])
def test_hooks_are_callables(either: Ends, wrong: Any) -> None:
    sock, _ = either
    with pytest.raises(TypeError, match='callable'):
        sock.add_hook(send=wrong)
    with pytest.raises(TypeError, match='callable'):
        sock.add_hook(recv=wrong)
