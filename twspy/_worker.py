"""A worker process from inside: serves until its parent says stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from ._binding import bind_beside

logger = logging.getLogger('twspy.server')

GOODBYE = (1001, 'server is stopping')

# A parent and its worker tell each other lines of JSON over a socket pair.
# The parent: any number of times that certificates are to be reloaded; then
# the code and the reason of a stop, then anything for an abort; the end of the
# stream is a stop, too, as the parent may be killed.
# The worker: that it serves, and what it has to say at its end.
SERVES = {'serves': True}
RELOAD = 'reload'

Stop = Callable[[int, str], None]


def bind_again(sock: socket.socket) -> None:
    """Put a socket of this process behind one that was inherited, bound to
    the same address and with the same number."""
    with bind_beside(sock) as own:
        os.dup2(own.fileno(), sock.fileno(), inheritable=False)


class Process:
    """Serves, listens to its parent, and reports to it.

    name: what to call it in the log.
    stop: called on another thread; stops what `run()` serves.
    reload: the same; has it reload its certificates.
    """

    def __init__(
        self,
        name: str,
        channel: socket.socket,
        stop: Stop,
        reload: Callable[[], None],
    ) -> None:
        self._reload = reload
        self._name = name
        self._channel = channel
        self._stop = stop
        self._asked = False  # to stop, by the parent or by SIGTERM
        self._terminated = False
        self._aborting = False

    def take_signals(self) -> None:
        """Leave Ctrl-C, which all processes get, to the parent.

        A handler that does nothing, as programs that are started here would
        go on ignoring a signal that is ignored.
        """
        signal.signal(signal.SIGINT, self._interrupt)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def run(self, serve: Callable[[Callable[[], None]], None]) -> int:
        """Serve until the end; the exit status."""
        try:
            serve(self._note_listening)
        except SystemExit as error:
            code = error.code
            if code is not None and not isinstance(code, int):
                code = str(code)[:1000]
            send(self._channel, {'stops': True, 'raised': [code]})
        except Exception as error:
            logger.exception('%s failed', self._name)
            text = f'{type(error).__name__}: {error}'
            send(self._channel, {'error': text[:1000]})
            return 1
        else:
            if not self._asked:
                send(self._channel, {'stops': True})
        return 0

    def _note_listening(self) -> None:
        threading.Thread(
            target=self._watch, name='twspy-worker', daemon=True
        ).start()
        send(self._channel, SERVES)

    def _watch(self) -> None:
        """Wait for the parent to say stop, or to be gone."""
        with self._channel.makefile(encoding='utf-8') as lines:
            line = _read_line(lines)
            while line and json.loads(line) == RELOAD:
                self._reload_certificates()
                line = _read_line(lines)
            self._asked = True
            code, reason = json.loads(line) if line else GOODBYE
            if not line and not self._terminated:
                logger.error('%s stops: its parent is gone', self._name)
            # On another thread, as it waits for the clients.
            threading.Thread(
                target=self._stop, args=(code, reason), daemon=True
            ).start()
            if _read_line(lines):
                self._aborting = True
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)

    def _reload_certificates(self) -> None:
        """The parent could read the files; they may have changed since."""
        try:
            self._reload()
        except Exception:
            logger.exception(
                '%s could not reload its certificates: it keeps the old ones',
                self._name,
            )

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._aborting:
            raise KeyboardInterrupt

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """Stop in good order at the first SIGTERM, at once at the second."""
        if self._terminated:
            raise KeyboardInterrupt
        self._terminated = self._asked = True
        try:
            self._channel.shutdown(socket.SHUT_RD)  # wakes _watch()
        except OSError:
            pass  # it is awake, as the parent is gone


def send(channel: socket.socket, what: object) -> None:
    """Write a line, unless the other end is gone."""
    try:
        channel.sendall(json.dumps(what).encode() + b'\n')
    except OSError:
        pass


def _read_line(lines: TextIO) -> str:
    try:
        return lines.readline()
    except OSError:  # it was killed before it had read what we said
        return ''


def flush() -> None:
    """Write out what the standard streams hold back."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none, or it is closed
