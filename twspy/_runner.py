"""The threads that turn a server's loop, and the signals that stop it."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol

from ._binding import Listener
from ._tls import SSLSettings

logger = logging.getLogger('twspy.server')

_BACKLOG = 1024
_STOPPING = 'server is stopping'
_CHILD_RETURNED = (
    'twspy: a child process has returned from a handler, and ends here, as '
    "the connections are its parent's: end a child with os._exit()"
)

_running: weakref.WeakSet[Runner] = weakref.WeakSet()
_started: weakref.WeakSet[Runner] = weakref.WeakSet()  # some have ended


class Loops(Protocol):
    """What a runner needs of the server in C."""

    def _loop_listen(
        self,
        runner: Runner,
        sockets: tuple[socket.socket, ...],
        backlog: int,
        patience: float | None,
        tells_sent: bool,
        asks_handshake: bool,
        /,
    ) -> None: ...
    def _loop_tls(self, context: Any, /) -> None: ...
    def _loop_work(self, number: int, /) -> None: ...
    def _loop_forget(self) -> None: ...
    def _loop_exit(self) -> SystemExit | None: ...
    def _loop_stop(
        self, code: int, reason: str, patience: float | None, /
    ) -> None: ...


def check_number(name: str, number: Any, expected: str) -> int:
    """The number of something that somebody asked for, if it is one."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f'{name} is {number!r}, expected {expected}')
    if number < 1:
        raise ValueError(f'{name} is {number}, expected at least 1')
    return number


class Runner:
    """Runs the loops of a server once.

    listener: what they listen on, which is closed when nobody is to connect
    any more.
    patience: seconds a stop waits for clients and for running handlers; None:
    as long as it takes.
    tls: how connections are encrypted; None: they are not

    worker: which worker this process is, if it is one
    stop_workers: in the parent of workers, stops all of them
    reload_workers: there, has all of them reload their certificates
    threads: those that serve, each with the number of its loop
    started: how many there ever were
    """

    def __init__(
        self,
        listener: Listener,
        patience: float | None,
        tls: SSLSettings | None = None,
    ) -> None:
        self.name = listener.name
        self.tls = tls
        self.patience = patience
        self.listener = listener
        self.worker: int | None = None
        self.stop_workers: Callable[[int, str], None] | None = None
        self.reload_workers: Callable[[], None] | None = None
        self.loops: Loops | None = None
        self._server: weakref.ref[Loops] | None = None  # also after the end
        self.count = 1
        self.threads: dict[threading.Thread, int] = {}
        self.started = 0
        self._lock = threading.Lock()  # of `started` and what follows
        self._left: set[int] = set()  # loops that have not ended
        self.stop_asked = threading.Event()
        self.done = threading.Event()
        self.interrupted = False
        self.forked = False  # this process is a child of the server's
        self.failure: BaseException | None = None

    @property
    def state(self) -> str:
        """What to say of it in a repr."""
        if self.started == 0:
            return 'not started'
        return 'stopped' if self.done.is_set() else 'running'

    def start(
        self,
        loops: Loops,
        count: int,
        tells_sent: bool,
        asks_handshake: bool,
    ) -> None:
        """Listen, and turn so many loops, each on a thread of its own."""
        check_number('loops', count, 'a number of loops')
        if self.loops is not None or self.started > 0:
            raise RuntimeError(
                'the server is running or has run: make a new one'
            )
        sockets = self.listener.open_more(count)
        try:
            loops._loop_listen(
                self,
                sockets,
                _BACKLOG,
                self.patience,
                tells_sent,
                asks_handshake,
            )
            if self.tls is not None:
                loops._loop_tls(self.tls.context_for(server_side=True))
        except BaseException:
            self.listener.close_more()
            raise
        if not logger.hasHandlers():
            _log_to_stderr()
        self.loops = loops
        self._server = weakref.ref(loops)
        _running.add(self)
        _started.add(self)
        self.count = count
        self._left = set(range(count))
        first: list[threading.Thread] = []
        try:
            for index in range(count):
                first.append(self._start_thread(index))
        except RuntimeError:  # no more threads, or none in this interpreter
            self._abandon(first)
            raise
        logger.info('listening on %s', self.name)

    def spawn(self, index: int) -> bool:
        """Start one more thread; False, and a warning, where that fails."""
        try:
            self._start_thread(index)
        except RuntimeError as error:
            logger.warning(
                'could not start a thread beside the %d there are (%s): slow '
                'handlers hold up other clients until one returns',
                len(self.threads),
                error,
            )
            return False
        return True

    def exhausted(self, index: int) -> None:
        """Warn that one more slow handler would hold up the others."""
        logger.warning(
            'all but one of the %d threads of %s are inside handlers: further '
            'clients may have to wait; make handlers quicker, or raise '
            'max_threads',
            list(self.threads.values()).count(index),
            self._name_loop(index),
        )

    def stopping(self, index: int) -> None:
        """Turn new peers away from a loop: a stop has begun."""
        self.listener.close_one(index)

    def ended(self, index: int) -> None:
        """Take note, on one of its threads, that a loop is over."""
        with self._lock:
            self._left.discard(index)
            if self._left or self.loops is None:
                return
            loops, self.loops = self.loops, None  # they refer to us
        try:
            self.failure = loops._loop_exit() or self.failure
            self.listener.close()
            _running.discard(self)
            logger.info('stopped listening on %s', self.name)
        finally:  # whatever a handler of the log raises: run() waits
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
        if self.stop_workers is not None:
            self.stop_workers(code, reason)
            return
        if self.started == 0:
            self.listener.close()
            return
        loops = self.loops
        if loops is not None:
            loops._loop_stop(code, reason, self.patience)
        self.stop_asked.set()
        if threading.current_thread() not in self.threads:
            self.join()

    def reload_certificates(self) -> None:
        """Have new connections encrypted with what the files are now."""
        if self.tls is None:
            raise RuntimeError(
                'the server has no certificates to reload: it was made '
                'without ssl_args'
            )
        context = self.tls.renew()
        if self.reload_workers is not None:
            self.reload_workers()
        loops = self.loops
        if loops is not None:
            loops._loop_tls(context)
        logger.info('reloaded the certificates of %s', self.name)

    def forget(self) -> None:
        """In a forked child: the threads and the clients are the parent's.
        Locks may be held for ever by threads that are not here."""
        self.forked = True
        self.threads = {}
        self._lock = threading.Lock()
        self.done = threading.Event()
        self.done.set()
        self.stop_asked = threading.Event()
        self.stop_asked.set()
        self.loops = None
        loops = self._server() if self._server is not None else None
        if loops is not None:
            loops._loop_forget()
        self.listener.forget()

    def end_child(self, error: BaseException | None) -> NoReturn:
        """End a forked child that has left its handler, by that error."""
        status = 1
        try:
            if isinstance(error, SystemExit):
                if error.code is None or isinstance(error.code, int):
                    status = (error.code or 0) & 0xFF  # as the system does
                else:
                    print(error.code, file=sys.stderr)
            else:
                if error is not None:
                    traceback.print_exception(error)
                print(_CHILD_RETURNED, file=sys.stderr)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(status)

    def join(self) -> None:
        """Wait for the loops' threads; warn where a handler stays."""
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

    def _name_loop(self, index: int) -> str:
        """What to call one of the loops in logs and debuggers."""
        return self.name if self.count == 1 else f'{self.name} loop {index}'

    def _start_thread(self, index: int) -> threading.Thread:
        with self._lock:
            number = self.started + 1
            thread = threading.Thread(
                target=self._work,
                args=[self.loops, index],
                name=f'twspy {self._name_loop(index)} #{number}',
                daemon=True,
            )
            thread.start()
            self.started = number
            return thread

    def _abandon(self, first: list[threading.Thread]) -> None:
        """End the loops that have their first thread, as the others don't."""
        self._ask_to_stop(0)
        for thread in first:
            thread.join(1.0)
        self.loops = None
        _running.discard(self)
        self.listener.close()
        if first:
            self.done.set()

    def _work(self, loops: Loops, index: int) -> None:
        thread = threading.current_thread()
        failure: BaseException | None = None
        self.threads[thread] = index
        try:
            try:
                loops._loop_work(index)
            except (MemoryError, OSError) as error:
                failure = error
            self._part(thread, index, failure)
        finally:
            del self.threads[thread]

    def _part(
        self,
        thread: threading.Thread,
        index: int,
        failure: BaseException | None,
    ) -> None:
        """One of a loop's threads ends."""
        others = [t for t, i in list(self.threads.items()) if i == index]
        if index not in self._left:
            self.failure = failure or self.failure  # of the loop itself
        elif others == [thread]:
            # The first could not begin, or ended() could not be called.
            self.failure = failure
            self._ask_to_stop(self.patience)
            self.ended(index)
        elif failure is not None:
            logger.warning(
                'a thread beside the %d there are could not serve (%r): slow '
                'handlers may hold up other clients',
                len(self.threads) - 1,
                failure,
            )

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Stop in good order at the first signal, at once at the second."""
        if self.forked:
            # A child has a life of its own, which ends as if nobody had taken
            # the signals: multiprocessing's terminate() counts on that.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            raise KeyboardInterrupt
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        # No Event.set() here: the signal may have interrupted this thread
        # inside of wait(), with the event's lock taken. The end of the loop
        # wakes run().
        self._ask_to_stop(self.patience)

    def _ask_to_stop(self, patience: float | None) -> None:
        loops = self.loops
        if loops is not None:
            loops._loop_stop(1001, _STOPPING, patience)


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


def _forget() -> None:
    # Also those that have ended, but for handlers which did not return.
    for runner in list(_started):
        runner.forget()
    _started.clear()
    _running.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _stop_running() -> None:
    for runner in list(_running):
        try:
            runner.stop()
        except Exception:
            logger.exception('%s failed while it stopped', runner.name)
    # Loaded only where there is an ssl.SSLContext. It has no hook of its own,
    # which would run before this one.
    bridge = sys.modules.get('twspy._tls_bridge')
    if bridge is not None:
        bridge.finish()
