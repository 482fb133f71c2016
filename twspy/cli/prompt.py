"""A prompt at which lines are typed while others are printed above it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

try:
    import readline
except ImportError:  # CPython can be built without
    readline = None  # type: ignore[assignment]

_PROMPT = '> '
_HISTORY_LINES = 1000


def history_path() -> Path:
    """Where lines are kept from one run to the next (XDG base directories)."""
    state = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
    return Path(state).expanduser() / 'twspy' / 'history'


class Prompt:
    """Reads lines from the terminal, with history and editing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading = False
        self._over = False

    def lines(self) -> Iterator[str]:
        """The lines until Ctrl-D, or until interrupt()."""
        self._load_history()
        try:
            while not self._over:
                self._reading = True
                try:
                    line = input(_PROMPT)
                except EOFError:
                    print()
                    return
                except KeyboardInterrupt:
                    if self._over:
                        return
                    raise
                finally:
                    self._reading = False
                if line:
                    yield line
        finally:
            self._save_history()

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
        if self._reading:
            signal.pthread_kill(
                threading.main_thread().ident or 0, signal.SIGINT
            )

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
