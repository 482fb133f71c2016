"""The threads that turn a server's loop, and the signals that stop it."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

logger = logging.getLogger('twspy.server')

_BACKLOG = 1024
_STOPPING = 'server is stopping'

_running: weakref.WeakSet[Runner] = weakref.WeakSet()


class Loop(Protocol):
    """What a runner needs of the server in C."""

    def _loop_listen(
        self,
        runner: Runner,
        backlog: int,
        patience: float | None,
        tells_sent: bool,
        /,
    ) -> None: ...
    def _loop_work(self) -> None: ...
    def _loop_exit(self) -> SystemExit | None: ...
    def _loop_stop(
        self, code: int, reason: str, patience: float | None, /
    ) -> None: ...


class Runner:
    """Runs one loop once.

    patience: seconds a stop waits for clients and for a running handler;
    None: as long as it takes.
    close: called when nobody is to connect any more.
    """

    def __init__(
        self, name: str, patience: float | None, close: Callable[[], None]
    ) -> None:
        self.name = name
        self.patience = patience
        self.close = close
        self.loop: Loop | None = None
        self.threads: set[threading.Thread] = set()
        self.started = 0
        self.stop_asked = threading.Event()
        self.done = threading.Event()
        self.interrupted = False
        self.failure: BaseException | None = None

    @property
    def state(self) -> str:
        """What to say of it in a repr."""
        if self.started == 0:
            return 'not started'
        return 'stopped' if self.done.is_set() else 'running'

    def start(self, loop: Loop, tells_sent: bool) -> None:
        """Listen, and turn the loop on a thread of its own."""
        loop._loop_listen(self, _BACKLOG, self.patience, tells_sent)
        if not logger.hasHandlers():
            _log_to_stderr()
        self.loop = loop
        try:
            self._start_thread()
        except RuntimeError:  # no more threads, or none in this interpreter
            self.loop = None
            self.started = 0
            self.close()
            raise
        _running.add(self)
        logger.info('listening on %s', self.name)

    def spawn(self) -> bool:
        """Start one more thread; False, and a warning, where that fails."""
        try:
            self._start_thread()
        except RuntimeError as error:
            logger.warning(
                'could not start a thread beside the %d there are (%s): slow '
                'handlers hold up other clients until one returns',
                len(self.threads),
                error,
            )
            return False
        return True

    def exhausted(self) -> None:
        """Warn that one more slow handler would hold up the others."""
        logger.warning(
            'all but one of the %d threads of %s are inside handlers: further '
            'clients may have to wait; make handlers quicker, or raise '
            'max_threads',
            len(self.threads),
            self.name,
        )

    def stopping(self) -> None:
        """Turn new peers away: a stop has begun."""
        self.close()

    def ended(self) -> None:
        """Take note, on one of the loop's threads, that the loop is over."""
        assert self.loop is not None
        self.failure = self.loop._loop_exit() or self.failure
        self.loop = None  # it refers to us
        _running.discard(self)
        logger.info('stopped listening on %s', self.name)
        self.done.set()
        self.stop_asked.set()

    def run(self, start: Callable[[], object]) -> None:
        """Call `start`, which starts us, and wait for a signal or a stop."""
        with _handling_signals(self._interrupt):
            try:
                start()
                # Not for ever: a signal that the system delivers to another
                # thread does not wake this one, which has to handle it.
                while not self.stop_asked.wait(1.0) and not self.interrupted:
                    pass
                if self.interrupted:
                    # The signal may have come before the loop could hear it.
                    self._ask_to_stop(self.patience)
                self.join()
            except KeyboardInterrupt:
                self._ask_to_stop(0)
                self.done.wait(1.0)

    def stop(self, code: int = 1001, reason: str = _STOPPING) -> None:
        """Stop in good order; on the loop's own threads, without waiting."""
        if self.started == 0:
            self.close()
            return
        loop = self.loop
        if loop is not None:
            loop._loop_stop(code, reason, self.patience)
        self.stop_asked.set()
        if threading.current_thread() not in self.threads:
            self.join()

    def join(self) -> None:
        """Wait for the loop and its threads; warn where a handler stays."""
        limit = None if self.patience is None else self.patience + 1.0
        end = None if limit is None else time.monotonic() + limit
        if self.done.wait(limit):
            for thread in list(self.threads):
                thread.join(_left(end))
        left = len(self.threads)
        if left:
            logger.warning(
                'handlers have not returned within %s s of the stop: leaving '
                '%d threads behind',
                limit,
                left,
            )
        _running.discard(self)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _start_thread(self) -> None:
        self.started += 1  # first: the thread itself may start another one
        thread = threading.Thread(
            target=self._work,
            args=[self.loop],
            name=f'twspy {self.name} #{self.started}',
            daemon=True,
        )
        thread.start()

    def _work(self, loop: Loop) -> None:
        thread = threading.current_thread()
        self.threads.add(thread)
        try:
            loop._loop_work()
        except OSError as error:  # of the loop itself
            self.failure = error
        finally:
            self.threads.discard(thread)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Stop in good order at the first signal, at once at the second."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        # No Event.set() here: the signal may have interrupted this thread
        # inside of wait(), with the event's lock taken. The end of the loop
        # wakes run().
        self._ask_to_stop(self.patience)

    def _ask_to_stop(self, patience: float | None) -> None:
        loop = self.loop
        if loop is not None:
            loop._loop_stop(1001, _STOPPING, patience)


def _left(end: float | None) -> float | None:
    """Seconds until `end`, at least 0; None: for ever."""
    return None if end is None else max(0.0, end - time.monotonic())


def _log_to_stderr() -> None:
    """Give the logger an output where nobody has configured logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s')
    )
    logger.addHandler(handler)


@contextmanager
def _handling_signals(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[None]:
    """Give SIGINT and SIGTERM to a handler where nobody else has use for
    them. An exception that interrupts the calling thread anywhere could hit
    it before it is ready for that; a handler can't."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        defaults: dict[int, Any] = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
        }
        for number, default in defaults.items():
            if signal.getsignal(number) == default:
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


# The loops are the parent's.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_running.clear)


@atexit.register
def _stop_running() -> None:
    for runner in list(_running):
        try:
            runner.stop()
        except Exception:
            logger.exception('%s failed while it stopped', runner.name)
