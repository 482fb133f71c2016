"""Masking keys and nonces can't be foretold (RFC 6455 sections 5.3, 10.3): not
from other frames, other connections, other processes or the parent of one."""

from __future__ import annotations

import itertools
import os
import struct
import sys

import pytest
from programs import Program
from rawends import client_end, read_request, tcp_pair
from rawpeer import BINARY, RawPeer

import twspy

# Prints what is drawn at random, one value a line, from a state that is the
# same each time as far as a program can make it so.
PROGRAM = """
import random
import socket
import twspy

random.seed(1)
for _ in range(60):
    print(twspy.Frame(2, b'', mask=True).masking_key.hex())
one, two = socket.socketpair()
sock = twspy.websocket(one)
sock.setblocking(False)
try:
    sock.handshake(host='localhost')
except BlockingIOError:
    pass
head = two.recv(65536).decode().splitlines()
print(next(line for line in head if 'Key' in line).split()[-1])
auth = twspy.DigestAuth({}.get)
refusal = auth.authenticate(twspy.Request('GET', '/'))
print(refusal.headers['WWW-Authenticate'])
sock.close()
two.close()
"""


def drawn_by_a_process() -> list[str]:
    env = {'PYTHONHASHSEED': '0'}
    command = sys.executable, '-W', 'ignore', '-c', PROGRAM
    with Program(*command, env=env) as program:
        assert program.wait() == 0, program.text
        return program.lines


def test_two_processes_draw_different_values() -> None:
    one, two = drawn_by_a_process(), drawn_by_a_process()
    assert len(one) == len(two) == 62
    # Of so many keys of 32 bits two may be equal once in a million runs.
    assert len(set(one[:60] + two[:60])) >= 119
    assert one[60] != two[60], 'Sec-WebSocket-Key'
    assert one[61] != two[61], 'the nonce of a challenge'


def masks_of(peer: RawPeer, count: int) -> list[bytes]:
    """The keys of so many frames without payload."""
    found = []
    for _ in range(count):
        head = peer.read_exactly(6)
        assert head[1] == 0x80
        found.append(head[2:])
    return found


def test_every_frame_has_a_key_of_its_own() -> None:
    """Of a connection, and of all: no constant, no counter."""
    keys = []
    for _ in range(4):
        sock, peer = client_end()
        with sock, peer:
            sock.send(*[twspy.Frame(BINARY, b'')] * 1000)
            keys += masks_of(peer, 1000)
    assert len(set(keys)) >= 3995
    numbers = [struct.unpack('>I', key)[0] for key in keys]
    steps = {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(numbers)}
    assert len(steps) >= 3990
    xored = {a ^ b for a, b in itertools.pairwise(numbers)}
    assert len(xored) >= 3990


def test_keys_are_evenly_spread() -> None:
    """All bytes at all four places: chi-square with 255 degrees of freedom,
    which exceeds 400 about once in a hundred million."""
    count = 25_600
    keys = [
        twspy.Frame(BINARY, b'', mask=True).masking_key for _ in range(count)
    ]
    for place in range(4):
        seen = [0] * 256
        for key in keys:
            seen[key[place]] += 1
        expected = count / 256
        chi = sum((n - expected) ** 2 / expected for n in seen)
        assert 140 < chi < 400, place


def drawn_here() -> bytes:
    """Keys of 30 frames, and the nonce of a handshake."""
    keys = [twspy.Frame(2, b'', mask=True).masking_key for _ in range(30)]
    one, two = tcp_pair()
    with twspy.websocket(one) as sock, RawPeer(two) as peer:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.handshake(host='localhost')
        _, head = read_request(peer)
    return b''.join(keys) + head['sec-websocket-key'].encode()


def test_a_forked_child_draws_other_values() -> None:
    """The pool is full at the fork: a copy would give both the same."""
    twspy.Frame(2, b'', mask=True)
    results = []
    for _ in range(2):
        ends = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.write(ends[1], drawn_here())
                status = 0
            finally:
                os._exit(status)
        os.close(ends[1])
        with open(ends[0], 'rb') as file:
            results.append(file.read())
        assert os.waitpid(pid, 0)[1] == 0
    results.append(drawn_here())
    keys = [r[n : n + 4] for r in results for n in range(0, 120, 4)]
    assert len(set(keys)) >= 89
    assert len({r[120:] for r in results}) == 3
