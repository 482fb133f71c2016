"""Lines of standard input, which another thread may put an end to."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from types import TracebackType

_CHUNK = 65536


class Lines:
    """Reads standard input below Python's buffers: a thread that waits there
    could not be told to stop."""

    def __init__(self) -> None:
        self._wake, self._waker = os.pipe()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._wake)
        os.close(self._waker)

    def interrupt(self) -> None:
        """From any thread: there are no more lines."""
        os.write(self._waker, b'.')

    def __iter__(self) -> Iterator[bytes]:
        """The lines without their ends."""
        source = sys.stdin.fileno()
        parts: list[bytes] = []  # of a line that has not ended
        while True:
            ready, _, _ = select.select([source, self._wake], [], [])
            if self._wake in ready:
                return
            data = os.read(source, _CHUNK)
            if not data:
                break
            first, *others = data.split(b'\n')
            parts.append(first)
            for line in others:
                yield b''.join(parts)
                parts = [line]
        rest = b''.join(parts)
        if rest:
            yield rest
