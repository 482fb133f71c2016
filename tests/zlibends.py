"""Compression by Python's own zlib, as a second implementation."""

from __future__ import annotations

import zlib

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
