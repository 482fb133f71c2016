"""Compression by Python's own zlib, as a second implementation: its streams,
and connections whose other end is made of it."""

from __future__ import annotations

import contextlib
import socket
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from rawends import answer, read_request, tcp_pair
from rawpeer import CONTINUATION, RawFrame, RawPeer, request

import twspy

RSV1 = 4  # as RawFrame.rsv has it
TAIL = b'\x00\x00\xff\xff'


class Deflater:
    """What one end sends. A message that is `alone` refers to no other."""

    def __init__(self, bits: int = 15, takeover: bool = True) -> None:
        self.bits = bits
        self.takeover = takeover
        self.context = self._new()

    def _new(self) -> zlib._Compress:
        # Its distances are 250 at most with 9, which is good for 8.
        return zlib.compressobj(wbits=-max(self.bits, 9))

    def __call__(self, data: bytes, *, alone: bool = False) -> bytes:
        if alone or not self.takeover:
            self.context = self._new()
        out = self.context.compress(data)
        out += self.context.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(TAIL)
        return out[:-4] or b'\x00'


class Inflater:
    """What one end receives, with a window that is no larger than agreed."""

    def __init__(self, bits: int = 15, takeover: bool = True) -> None:
        self.bits = bits
        self.takeover = takeover
        self.context = zlib.decompressobj(wbits=-bits)

    def __call__(self, data: bytes) -> bytes:
        if not self.takeover:
            self.context = zlib.decompressobj(wbits=-self.bits)
        out = self.context.decompress(data + TAIL)
        assert not self.context.unconsumed_tail
        return out


class Message(NamedTuple):
    """A message as it came: inflated, and the frames it came in."""

    opcode: int
    payload: bytes
    frames: list[RawFrame]

    @property
    def compressed(self) -> bool:
        """Whether its first frame says so."""
        return self.frames[0].rsv == RSV1


class ZlibPeer:
    """The other end, made of a plain socket and zlib.

    per_frame: it speaks deflate-frame, else permessage-deflate. Bits and
    takeover are those of either direction as this end sees it.
    """

    def __init__(
        self,
        raw: RawPeer,
        mask: bool,
        per_frame: bool,
        out: tuple[int, bool],
        into: tuple[int, bool],
    ) -> None:
        self.raw = raw
        self.mask = mask
        self.per_frame = per_frame
        self.deflate = Deflater(*out)
        self.inflate = Inflater(*into)

    def frame(
        self,
        opcode: int,
        payload: bytes = b'',
        *,
        rsv1: bool = False,
        **how: Any,
    ) -> None:
        """Send a frame as it is."""
        rsv = RSV1 if rsv1 else 0
        self.raw.send_frame(opcode, payload, rsv=rsv, mask=self.mask, **how)

    def send(self, opcode: int, payload: bytes, size: int = 0) -> None:
        """Send a message compressed, in frames of so many bytes."""
        if self.per_frame:
            for i, (part, last) in enumerate(cut(payload, size)):
                self.frame(
                    opcode if i == 0 else CONTINUATION,
                    self.deflate(part),
                    rsv1=True,
                    fin=last,
                )
            return
        for i, (part, last) in enumerate(cut(self.deflate(payload), size)):
            self.frame(
                opcode if i == 0 else CONTINUATION,
                part,
                rsv1=i == 0,
                fin=last,
            )

    def read(self) -> Message:
        """Read a message; between its frames there must be no others."""
        frames = [self.raw.read_frame()]
        while not frames[-1].fin:
            frames.append(self.raw.read_frame())
        assert all(f.opcode == CONTINUATION for f in frames[1:])
        assert all(f.masked is not self.mask for f in frames)
        assert all(f.rsv in (0, RSV1) for f in frames)
        if self.per_frame:
            payload = b''.join(
                self.inflate(f.payload) if f.rsv else f.payload for f in frames
            )
        else:
            assert all(f.rsv == 0 for f in frames[1:])
            payload = b''.join(f.payload for f in frames)
            if frames[0].rsv:
                payload = self.inflate(payload)
        return Message(frames[0].opcode, payload, frames)

    def __enter__(self) -> ZlibPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.raw.close()


def cut(payload: bytes, size: int) -> list[tuple[bytes, bool]]:
    """Parts of so many bytes (0: one part), and whether each is the last."""
    if size == 0 or not payload:
        return [(payload, True)]
    starts = range(0, len(payload), size)
    return [
        (payload[start : start + size], start + size >= len(payload))
        for start in starts
    ]


class Terms(NamedTuple):
    """What is agreed on: of what twspy sends (`our`), and the peer."""

    our_bits: int = 15
    their_bits: int = 15
    our_takeover: bool = True
    their_takeover: bool = True
    per_frame: bool = False


DEFAULT = Terms()


def _params(server: bool, terms: Terms) -> str:
    """What the peer says in the opening handshake to get there."""
    if terms.per_frame:
        text = f'deflate-frame; max_window_bits={terms.our_bits}'
        return text + ('' if terms.our_takeover else '; no_context_takeover')
    ours, theirs = ('server', 'client') if server else ('client', 'server')
    text = (
        f'permessage-deflate; {ours}_max_window_bits={terms.our_bits}; '
        f'{theirs}_max_window_bits={terms.their_bits}'
    )
    if not terms.our_takeover:
        text += f'; {ours}_no_context_takeover'
    if not terms.their_takeover:
        text += f'; {theirs}_no_context_takeover'
    return text


def zlib_end(
    server: bool,
    extension: Any,
    terms: Terms = DEFAULT,
    *,
    pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
    **options: Any,
) -> tuple[twspy.websocket, ZlibPeer]:
    """An open websocket, of a server or a client, with compression."""
    one, two = pair()
    raw = RawPeer(two)
    sock = twspy.websocket(one, compression=extension, **options)
    params = _params(server, terms)
    if server:
        sock.handshake(
            server=True, initial=request(Sec_WebSocket_Extensions=params)
        )
        _, head = raw.read_head()
        assert head['sec-websocket-extensions'].startswith(
            params.split(';')[0]
        )
    else:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.handshake(host='localhost')
        _, head = read_request(raw)
        raw.send(answer(head, Sec_WebSocket_Extensions=params))
    sock.settimeout(30)
    if not server:
        sock.handshake(host='localhost')
    peer = ZlibPeer(
        raw,
        server,
        terms.per_frame,
        (terms.their_bits, terms.their_takeover),
        (terms.our_bits, terms.our_takeover),
    )
    return sock, peer
