"""Worker processes: forked, watched, started again, and ended together."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from ._binding import share_port
from ._runner import Runner, _log_to_stderr, check_number
from ._twspy import CloseMessage
from ._worker import (
    GOODBYE,
    RELOAD,
    Process,
    Stop,
    bind_again,
    flush,
    send,
)

logger = logging.getLogger('twspy.server')

_DEFAULTS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}

# Seconds until a worker that crashed is started again: doubled with each
# crash, until one of its successors has lived for a while.
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
_LONG_LIFE = 10.0

# Seconds that a worker has beyond `max_join_time`: run() leaves a handler
# behind that does not return for one second more, and then the process ends.
_GRACE = 2.0
_ABORT_GRACE = 1.5

Serve = Callable[[int, Callable[[], None]], None]


def check_count(count: int) -> int:
    """The number of workers somebody asked for, if there can be as many."""
    check_number(
        'workers',
        count,
        'a number of processes, or None to serve in this one',
    )
    if not hasattr(os, 'fork'):
        raise RuntimeError(
            'run(workers=...) forks, which this system cannot do: leave '
            'workers out'
        )
    if threading.active_count() > 1:
        names = ', '.join(repr(each.name) for each in threading.enumerate())
        raise RuntimeError(
            'run(workers=...) forks, which is not safe while other threads '
            f'run: start them later, in the workers (there are {names})'
        )
    return count


def run_workers(
    runner: Runner, count: int, start: Callable[[], object]
) -> None:
    """Have so many processes run what this one would; wait for their end.

    start: called in each, starts the runner.
    """
    listener = runner.listener
    if runner.state != 'not started' or listener.sock.fileno() < 0:
        raise RuntimeError('the server is running or has run: make a new one')
    if listener.shareable:
        share_port(listener.sock)

    def serve(index: int, note_listening: Callable[[], None]) -> None:
        def start_and_tell() -> None:
            start()
            note_listening()

        runner.stop_workers = runner.reload_workers = None
        runner.worker = index
        if listener.shareable:
            bind_again(listener.sock)
        runner.run(start_and_tell)

    workers = Workers(
        count,
        serve,
        runner.stop,
        runner.reload_certificates,
        runner.patience,
    )
    runner.stop_workers = workers.stop
    runner.reload_workers = workers.reload
    try:
        workers.run()
    finally:
        runner.stop_workers = runner.reload_workers = None
        runner.stop()


class _Worker:
    """One place among the workers, and the process that has it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid: int | None = None
        self.channel: socket.socket | None = None
        self.started = 0.0
        self.due = 0.0  # when to start it
        self.delay = _FIRST_DELAY
        self.failed = False  # ended before it served

    def __str__(self) -> str:
        return f'worker {self.index} (pid {self.pid})'

    def tell(self, what: object) -> None:
        """Tell it something, unless it is gone."""
        assert self.channel is not None
        send(self.channel, what)

    def read_reports(self) -> dict[str, Any]:
        """What it has said since the last call.

        Does not wait: a process that it has forked may keep its end open.
        """
        assert self.channel is not None
        self.channel.setblocking(False)
        data = b''
        try:
            while more := self.channel.recv(4096):
                data += more
        except OSError:
            pass
        reports: dict[str, Any] = {}
        for line in data.splitlines():
            reports |= json.loads(line)
        return reports

    def forget(self) -> None:
        """Take note that its process is gone."""
        self.pid = None
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def delay_start(self, now: float) -> float:
        """Choose when to start it again; the seconds until then."""
        if now - self.started >= _LONG_LIFE:
            self.delay = _FIRST_DELAY
        delay = self.delay
        self.due = now + delay
        self.delay = min(2 * delay, _LONGEST_DELAY)
        return delay


class Workers:
    """The parent of worker processes.

    serve: called in a worker with its index and what to call once it
    listens; returns when it has stopped.
    stop: called in a worker, on another thread; stops what `serve` runs.
    reload: the same; has it reload its certificates.
    patience: seconds that a stop may take, or None.
    """

    def __init__(
        self,
        count: int,
        serve: Serve,
        stop: Stop,
        reload: Callable[[], None],
        patience: float | None,
    ) -> None:
        self._reload = reload
        self._reload_asked = False
        self._workers = [_Worker(index) for index in range(count)]
        self._serve = serve
        self._stop = stop
        self._patience = patience
        self._served = False  # any of them, ever
        self._goodbye: tuple[int, str] | None = None  # set: all shall stop
        self._stopped_at: float | None = None
        self._interrupts = 0
        self._deadline: float | None = None  # when to kill them
        self._result: BaseException | None = None
        self._wake_receiver, self._wake_sender = -1, -1
        self._previous: dict[int, Any] = {}
        self._previous_wakeup = -1

    def stop(self, code: int, reason: str) -> None:
        """Ask for a stop of all workers; any thread, or a signal handler."""
        CloseMessage(code, reason).frame()  # raises where it can't be sent
        self._end(code, reason)
        self._wake()

    def reload(self) -> None:
        """Have all workers reload their certificates; as stop()."""
        self._reload_asked = True
        self._wake()

    def _wake(self) -> None:
        if self._wake_sender >= 0:
            try:
                os.write(self._wake_sender, b'\0')
            except BlockingIOError:
                pass  # it is being woken

    def _end(self, code: int, reason: str) -> None:
        if self._goodbye is None:
            self._goodbye = code, reason

    def run(self) -> None:
        """Start the workers and watch over them until all have ended."""
        if not logger.hasHandlers():
            _log_to_stderr()
        with self._handling_signals():
            try:
                self._supervise()
            except BaseException:
                # Of a signal handler that is not ours.
                self._end(*GOODBYE)
                self._supervise()
                raise
            finally:
                self._kill()
        if self._result is not None:
            raise self._result

    def _supervise(self) -> None:
        while True:
            now = time.monotonic()
            self._reap(now)
            if self._reload_asked:
                self._reload_asked = False
                for worker in self._living():
                    worker.tell(RELOAD)
            if self._goodbye is None:
                self._start_due(now)
            if self._goodbye is not None:
                if not self._living():
                    return
                self._press(now)
            self._wait(now)

    def _living(self) -> list[_Worker]:
        return [each for each in self._workers if each.pid is not None]

    # Starting

    def _start_due(self, now: float) -> None:
        for worker in self._workers:
            if self._goodbye is not None:
                return
            if worker.pid is not None or worker.due > now:
                continue
            try:
                self._fork(worker)
            except OSError as error:
                logger.error(
                    'no process for worker %d: %s; next try in %.1f s',
                    worker.index,
                    error,
                    worker.delay_start(now),
                )
                self._note_failure(worker, str(error))

    def _fork(self, worker: _Worker) -> None:
        """Start a worker; in the new process, never return."""
        ours, theirs = socket.socketpair()
        # What is buffered now would be written by each process.
        flush()
        numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
        # A signal before the new process has its own handlers would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(worker, ours, theirs, before)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        worker.pid, worker.channel = pid, ours
        worker.started = time.monotonic()
        logger.info('%s started', worker)

    def _become(
        self,
        worker: _Worker,
        ours: socket.socket,
        theirs: socket.socket,
        mask: set[Any],
    ) -> NoReturn:
        """Be the new process until it ends."""
        status = 1
        try:
            worker.pid = os.getpid()
            # The parent's ends: open here, they would hide its death.
            ours.close()
            for each in self._workers:
                if each.channel is not None:
                    each.channel.close()
            self._release_signals()
            process = Process(str(worker), theirs, self._stop, self._reload)
            process.take_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = process.run(
                lambda ready: self._serve(worker.index, ready)
            )
            logging.shutdown()
        finally:
            try:
                flush()
            finally:
                os._exit(status)

    # Ending

    def _reap(self, now: float) -> None:
        for worker in self._living():
            assert worker.pid is not None
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = worker.pid, 1 << 8
            if pid != 0:
                self._bury(worker, status, now)

    def _bury(self, worker: _Worker, status: int, now: float) -> None:
        """Decide what follows from the end of a worker."""
        reports = worker.read_reports()
        self._served = self._served or 'serves' in reports
        if 'stops' in reports:  # a handler said so
            self._end(*GOODBYE)
        if 'raised' in reports and self._result is None:
            self._result = SystemExit(*reports['raised'])
        name, how = str(worker), _describe(os.waitstatus_to_exitcode(status))
        worker.forget()
        if self._goodbye is not None:
            logger.log(
                logging.WARNING if status else logging.INFO, '%s %s', name, how
            )
            return
        logger.log(
            logging.ERROR if status else logging.INFO,
            '%s %s: a new one starts in %.1f s',
            name,
            how,
            worker.delay_start(now),
        )
        self._note_failure(worker, reports.get('error', f'it {how}'))

    def _note_failure(self, worker: _Worker, why: str) -> None:
        """Give up where every worker has failed and none has ever served."""
        worker.failed = True
        if self._served or not all(each.failed for each in self._workers):
            return
        for each in self._living():
            self._served = self._served or 'serves' in each.read_reports()
        if not self._served:
            self._end(*GOODBYE)
            self._result = RuntimeError(
                f'none of {len(self._workers)} workers could serve; the last '
                f'one failed: {why}'
            )

    def _press(self, now: float) -> None:
        """Ask the workers to stop; insist on it; enforce it."""
        if self._stopped_at is None:
            self._stopped_at = now
            logger.info('stopping %d workers', len(self._living()))
            for worker in self._living():
                worker.tell(self._goodbye)
            if self._patience is not None:
                self._deadline = now + self._patience + _GRACE
        if self._interrupts > 1:
            self._interrupts = 1
            for worker in self._living():
                worker.tell('abort')
            last = now + _ABORT_GRACE
            self._deadline = min(self._deadline or last, last)
        if self._deadline is not None and now >= self._deadline:
            for worker in self._living():
                logger.warning(
                    '%s has not ended %.1f s after the stop: killing it',
                    worker,
                    now - self._stopped_at,
                )
            self._kill()
            self._deadline = None

    def _kill(self) -> None:
        for worker in self._living():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    # Waiting

    def _wait(self, now: float) -> None:
        """Wait for a signal or for the next thing that is due."""
        if self._goodbye is None:
            times = [each.due for each in self._workers if each.pid is None]
        else:
            times = [] if self._deadline is None else [self._deadline]
        timeout = None
        if times:
            timeout = max(0.0, min(times) - now) * 1000
        poll = select.poll()
        poll.register(self._wake_receiver, select.POLLIN)
        poll.poll(timeout)
        try:
            os.read(self._wake_receiver, 4096)
        except BlockingIOError:
            pass

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        self._end(*GOODBYE)

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Be woken by every signal; SIGINT and SIGTERM are ours only where
        nobody else has use for them."""
        receiver, sender = os.pipe()
        try:
            os.set_blocking(receiver, False)
            os.set_blocking(sender, False)
            self._previous_wakeup = signal.set_wakeup_fd(
                sender, warn_on_full_buffer=False
            )
        except BaseException:
            os.close(receiver)
            os.close(sender)
            raise
        self._wake_receiver, self._wake_sender = receiver, sender
        try:
            self._take(signal.SIGCHLD, lambda number, frame: None)
            for number, default in _DEFAULTS.items():
                if signal.getsignal(number) == default:
                    self._take(number, self._interrupt)
            yield
        finally:
            self._release_signals()

    def _take(self, number: int, handler: Any) -> None:
        self._previous[number] = signal.signal(number, handler)

    def _release_signals(self) -> None:
        for number, old in self._previous.items():
            if old is not None:  # it was not set from Python
                signal.signal(number, old)
        self._previous.clear()
        signal.set_wakeup_fd(self._previous_wakeup)
        receiver, sender = self._wake_receiver, self._wake_sender
        self._wake_receiver = self._wake_sender = -1
        os.close(sender)
        os.close(receiver)


def _describe(code: int) -> str:
    """How a process ended."""
    if code == 0:
        return 'has ended'
    if code > 0:
        return f'has ended with status {code}'
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    return f'was ended by {name}'
