"""A prompt at which lines are typed while others are printed above it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

readline: Any
try:
    readline = importlib.import_module('readline')
except ImportError:  # CPython can be built without
    readline = None

_PROMPT = '> '
_HISTORY_LINES = 1000


def history_path() -> Path:
    """Where lines are kept from one run to the next (XDG base directories)."""
    state = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
    return Path(state).expanduser() / 'twspy' / 'history'


class _Over(KeyboardInterrupt):
    """Raised by interrupt() in the main thread, out of input()."""


class Prompt:
    """Reads lines from the terminal, with history and editing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for what is printed
        self._reading = False  # only the main thread changes it
        self._over = False

    def lines(self) -> Iterator[str]:
        """The lines until Ctrl-D, or until interrupt(). To be used by the
        main thread, which gets the signals."""
        signal.signal(signal.SIGINT, self._on_signal)
        self._load_history()
        try:
            while not self._over and (line := self._read()) is not None:
                if line:
                    yield line
        finally:
            self._save_history()

    def _read(self) -> str | None:
        try:
            try:
                self._reading = True
                return input(_PROMPT)
            finally:
                self._reading = False
        except (EOFError, _Over):
            print()
            return None
        except KeyboardInterrupt:
            print()  # what comes next is on a line of its own
            raise

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._over:
            raise KeyboardInterrupt
        if self._reading:
            self._reading = False  # so that this is raised once
            raise _Over

    def print_above(self, text: str) -> None:
        """From any thread; what is being typed stays below."""
        with self._lock:
            if not self._reading:
                print(text, flush=True)
                return
            typed = readline.get_line_buffer() if readline else ''
            # Back to the first column, and the rest of the line is cleared.
            sys.stdout.write(f'\r\x1b[K{text}\n{_PROMPT}{typed}')
            sys.stdout.flush()

    def interrupt(self) -> None:
        """Ends lines(), from another thread."""
        self._over = True
        main = threading.main_thread().ident
        # Nothing but a signal ends input(). One that comes when readline is
        # about to wait is seen only when something is typed: so once more.
        while self._reading and main is not None:
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.05)

    def _load_history(self) -> None:
        if readline is not None:
            with contextlib.suppress(OSError):
                readline.read_history_file(history_path())

    def _save_history(self) -> None:
        if readline is None:
            return
        path = history_path()
        # A home that can't be written to is no reason to fail.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.set_history_length(_HISTORY_LINES)
            readline.write_history_file(path)
