"""A progress bar on standard error: that of `rich` where it is installed, a
plain one else, and none where standard error is no terminal."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any

_WIDTH = 30


class Progress:
    """Shows how much of the time has passed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shown = sys.stderr.isatty()
        self._rich: Any = None
        self._task: Any = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Progress:
        if not self._shown:
            return self
        try:
            from rich import console, progress
        except ImportError:
            return self
        self._rich = self._cleanup.enter_context(
            progress.Progress(
                console=console.Console(stderr=True), transient=True
            )
        )
        self._task = self._rich.add_task('measuring', total=self._seconds)
        return self

    def show(self, seconds: float) -> None:
        """So many have passed."""
        if self._rich is not None:
            self._rich.update(self._task, completed=seconds)
        elif self._shown:
            share = min(seconds / self._seconds, 1.0)
            bar = '#' * int(share * _WIDTH)
            print(
                f'\r[{bar:<{_WIDTH}}] {share:4.0%}',
                end='',
                file=sys.stderr,
                flush=True,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()
        if self._shown and self._rich is None:
            print('\r\x1b[K', end='', file=sys.stderr, flush=True)
