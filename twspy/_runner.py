"""The thread that turns a server's loop, and the signals that stop it."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
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
        self, backlog: int, patience: float | None, /
    ) -> None: ...
    def _loop_drive(self) -> None: ...
    def _loop_stop(
        self, code: int, reason: str, patience: float | None, /
    ) -> None: ...


class Runner:
    """Runs one loop once.

    patience: seconds a stop waits for clients and for a running handler;
    None: as long as it takes.
    close: called on the loop's thread when it is over.
    """

    def __init__(
        self, name: str, patience: float | None, close: Callable[[], None]
    ) -> None:
        self.name = name
        self.patience = patience
        self.close = close
        self.loop: Loop | None = None
        self.thread: threading.Thread | None = None
        self.stop_asked = threading.Event()
        self.done = threading.Event()
        self.interrupted = False
        self.failure: BaseException | None = None

    @property
    def state(self) -> str:
        """What to say of it in a repr."""
        if self.thread is None:
            return 'not started'
        return 'stopped' if self.done.is_set() else 'running'

    def start(self, loop: Loop) -> None:
        """Listen, and turn the loop on a thread of its own."""
        loop._loop_listen(_BACKLOG, self.patience)
        if not logger.hasHandlers():
            _log_to_stderr()
        thread = threading.Thread(
            target=self._drive, name=f'twspy-server {self.name}', daemon=True
        )
        self.loop, self.thread = loop, thread
        try:
            thread.start()
        except RuntimeError:  # no more threads, or none in this interpreter
            self.loop = self.thread = None
            self.close()
            raise
        _running.add(self)
        logger.info('listening on %s', self.name)

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
        """Stop in good order; on the loop's own thread, without waiting."""
        if self.loop is None:
            self.close()
            return
        self.loop._loop_stop(code, reason, self.patience)
        self.stop_asked.set()
        if threading.current_thread() is not self.thread:
            self.join()

    def join(self) -> None:
        """Wait for the loop to end; say so where a handler never returns."""
        limit = None if self.patience is None else self.patience + 1.0
        if not self.done.wait(limit):
            logger.warning(
                'a handler has not returned within %s s of the stop: leaving '
                'its thread behind',
                limit,
            )
            _running.discard(self)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _drive(self) -> None:
        assert self.loop is not None
        try:
            self.loop._loop_drive()
        except BaseException as error:
            self.failure = error
        finally:
            self.close()
            _running.discard(self)
            logger.info('stopped listening on %s', self.name)
            self.done.set()
            self.stop_asked.set()

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
        if self.loop is not None:
            self.loop._loop_stop(1001, _STOPPING, patience)


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


@atexit.register
def _stop_running() -> None:
    for runner in list(_running):
        try:
            runner.stop()
        except Exception:
            logger.exception('%s failed while it stopped', runner.name)
