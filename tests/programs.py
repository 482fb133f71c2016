"""Programs that tests start: what they print, and how they end."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

# How long a test waits for something that must happen.
SOON = 40.0


class Program:
    """A running program, as a context manager that ends it.

    lines: standard output and standard error so far.
    """

    def __init__(
        self,
        *command: str | os.PathLike[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [os.fspath(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding='utf-8',
            cwd=cwd,
            env={**os.environ, 'PYTHONUTF8': '1', **(env or {})},
        )
        assert self._process.stdout is not None
        self._thread = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True
        )
        self._thread.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._queue.put(line.rstrip('\n'))
        self._queue.put(None)

    def _next_line(self) -> str | None:
        try:
            line = self._queue.get(timeout=SOON)
        except queue.Empty:
            raise AssertionError(f'nothing came after {self.text!r}') from None
        if line is not None:
            self.lines.append(line)
        return line

    @property
    def text(self) -> str:
        """What was read of its output."""
        return '\n'.join(self.lines)

    def next_line(self) -> str:
        """The next line of its output."""
        line = self._next_line()
        assert line is not None, f'it ended after {self.text!r}'
        return line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read up to a line that has the pattern in it."""
        while True:
            found = re.search(pattern, self.next_line())
            if found is not None:
                return found

    def type(self, line: str) -> None:
        """Give it a line on standard input."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def returncode(self) -> int:
        """Wait for its end, with its standard input left open."""
        return self._process.wait(SOON)

    def wait(self) -> int:
        """Wait for its end, read the rest and return its status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while self._next_line() is not None:
            pass
        return self._process.wait(SOON)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(SOON)
        self._thread.join(SOON)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


def run_python(*arguments: str | os.PathLike[str], cwd: Path) -> Program:
    """Start Python, without a buffer between it and the test."""
    return Program(sys.executable, '-u', *arguments, cwd=cwd)


def wait_for_port(port: int) -> None:
    """Wait until a program listens."""
    deadline = time.monotonic() + SOON
    while True:
        try:
            socket.create_connection(('127.0.0.1', port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f'nobody listens on {port}'
            time.sleep(0.01)
