"""Runs `twspy` as a program: in pipes, and at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import NamedTuple

from programs import SOON

TWSPY = [sys.executable, '-m', 'twspy']

CTRL_C = '\x03'
CTRL_D = '\x04'

# Seconds of silence until a key is pressed again.
AGAIN = 2.0


class Done(NamedTuple):
    """A program that has ended."""

    status: int
    out: bytes
    err: str


def run(*arguments: str, given: bytes = b'') -> Done:
    """Run a command to its end; `given` is its standard input."""
    done = subprocess.run(
        [*TWSPY, *arguments],
        input=given,
        capture_output=True,
        timeout=SOON,
        env={**os.environ, 'PYTHONUTF8': '1'},
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


class Terminal:
    """A command that runs at a terminal, as a context manager.

    text: what it has shown so far
    """

    def __init__(self, *arguments: str, term: str = 'dumb') -> None:
        self._end, far_end = pty.openpty()
        self.text = ''
        self._read_to = 0
        self._process = subprocess.Popen(
            [*TWSPY, *arguments],
            stdin=far_end,
            stdout=far_end,
            stderr=far_end,
            start_new_session=True,
            env={**os.environ, 'PYTHONUTF8': '1', 'TERM': term},
            # So that Ctrl-C of the terminal reaches it.
            preexec_fn=take_terminal,
        )
        os.close(far_end)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def press(self, key: str) -> int:
        """Press Ctrl-C or Ctrl-D until it ends; returns the status.

        readline overlooks a key that comes when it is just about to wait, and
        one that comes between two lines, when the terminal is the kernel's.
        """
        self.type(key)
        deadline = time.monotonic() + SOON
        while True:
            if not self._has_more(AGAIN):
                assert time.monotonic() < deadline, f'{self.text!r} goes on'
                self.type(key)
            elif not self._read():
                return self._process.wait(SOON)

    def _has_more(self, seconds: float) -> bool:
        return bool(select.select([self._end], [], [], seconds)[0])

    def _read(self) -> bool:
        """More of what it shows; False: it has ended."""
        assert self._has_more(SOON), f'nothing came after {self.text!r}'
        try:
            data = os.read(self._end, 65536)
        except OSError:  # EIO: nobody has the other end
            return False
        self.text += data.decode(errors='replace')
        return True

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until the pattern is in what came since the last one."""
        while True:
            found = re.compile(pattern).search(self.text, self._read_to)
            if found is not None:
                self._read_to = found.end()
                return found
            assert self._read(), f'it ended after {self.text!r}'

    def wait(self) -> int:
        """Wait for its end; returns its status."""
        while self._read():
            pass
        return self._process.wait(SOON)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(SOON)
        os.close(self._end)


def take_terminal() -> None:
    """Makes standard input the terminal that controls this process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
