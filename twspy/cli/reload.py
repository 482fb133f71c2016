"""Runs the command again, without --reload, whenever one of the program's
files changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

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


def command() -> list[str]:
    words = [word for word in sys.argv[1:] if word != '--reload']
    return [sys.executable, '-m', 'twspy', *words]


def run_reloading() -> int:
    """Until Ctrl-C. A server that has ended is started with the next change."""
    top = Path.cwd()
    while True:
        seen = files_below(top)
        process = subprocess.Popen(command())
        try:
            changed = _await_change(top, seen)
        except KeyboardInterrupt:
            process.wait()  # the terminal has interrupted it as well
            return 130
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        print(f'twspy: {changed} has changed', file=sys.stderr)


def _await_change(top: Path, seen: dict[Path, int]) -> Path:
    while True:
        time.sleep(_LOOK_EVERY)
        now = files_below(top)
        for path in seen.keys() | now.keys():
            if seen.get(path) != now.get(path):
                return path.relative_to(top)
