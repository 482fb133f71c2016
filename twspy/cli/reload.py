"""Runs the command again, without --reload, whenever one of the program's
files changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

_LOOK_EVERY = 0.5  # seconds
_IGNORED = {'__pycache__', 'node_modules', 'site-packages'}


def files_below(top: Path) -> dict[Path, int]:
    """Python files, and when each was changed (nanoseconds)."""
    found = {}
    for directory, names, files in os.walk(top):
        names[:] = [
            name
            for name in names
            if not name.startswith('.') and name not in _IGNORED
        ]
        for file in files:
            if file.endswith('.py'):
                path = Path(directory, file)
                try:
                    found[path] = path.stat().st_mtime_ns
                except FileNotFoundError:
                    continue  # removed meanwhile
    return found


class _Terminated(Exception):
    """SIGTERM has come."""


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def run_reloading(arguments: Sequence[str]) -> int:
    """Until Ctrl-C or SIGTERM. A server that has ended by itself, such as one
    with a mistake in it, is started again with the next change.

    arguments: those of the command line, with --reload among them
    """
    words = [word for word in arguments if word != '--reload']
    command = [sys.executable, '-m', 'twspy', *words]
    top = Path.cwd()
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        while True:
            seen = files_below(top)
            process = subprocess.Popen(command)
            try:
                changed = _await_change(top, seen)
            finally:
                _end(process)
            print(f'twspy: {changed} has changed', file=sys.stderr)
    except (KeyboardInterrupt, _Terminated):
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """A Ctrl-C at a terminal has ended it already, or does so right now."""
    try:
        process.terminate()
        process.wait()
    except (KeyboardInterrupt, _Terminated):
        process.kill()  # the user is in a hurry
        process.wait()
        raise


def _await_change(top: Path, seen: dict[Path, int]) -> Path:
    while True:
        time.sleep(_LOOK_EVERY)
        now = files_below(top)
        for path in seen.keys() | now.keys():
            if seen.get(path) != now.get(path):
                return path.relative_to(top)
