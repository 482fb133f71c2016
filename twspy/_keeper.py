"""The thread that keeps clients' connections alive while their programs do
something else: when it starts and when it ends. Its work is in C."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import Protocol

logger = logging.getLogger('twspy')


class Keeper(Protocol):
    """The work, in C."""

    def _keeper_work(self) -> None: ...
    def _keeper_stop(self) -> None: ...
    def _keeper_forget(self) -> None: ...


# The last one that was started, and its work.
_running: tuple[Keeper, threading.Thread] | None = None


def start_keeper(keeper: Keeper) -> bool:
    """Start the thread; False, and a warning, where that fails."""
    global _running
    thread = threading.Thread(
        target=_work, args=[keeper], name='twspy-keeper', daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:  # no more, or none in this interpreter
        logger.warning(
            'could not start the thread that keeps connections alive (%s): '
            'pings of the peer are answered in recv() only',
            error,
        )
        return False
    _running = keeper, thread
    return True


def _work(keeper: Keeper) -> None:
    try:
        keeper._keeper_work()
    except OSError:
        logger.exception(
            'the thread that keeps connections alive has failed: pings of '
            'their peers are answered in recv() only'
        )


def _forget() -> None:
    global _running
    if _running is not None:
        _running[0]._keeper_forget()
        _running = None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _stop() -> None:
    if _running is not None:
        keeper, thread = _running
        keeper._keeper_stop()
        thread.join(1.0)
